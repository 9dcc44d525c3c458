# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue, and the coverage that journals prove."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.conformance.cells import (
    _LIMITS,
    ABIS,
    GUESTS,
    RELEASES,
    Scope,
    catalogue,
    rows,
    scope_of,
    why_not,
)
from harness.conformance.report import coverage, document, write
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version
from harness.model.evtchn.spec_rows import SPEC_ROWS
from harness.results import records
from harness.results.directory import RunDirectory
from harness.results.journal import Journal

PV = Scope("x86_64 pv", "FIFO", Release(4, 17))


def test_every_row_of_the_model_is_in_the_catalogue() -> None:
    assert SPEC_ROWS - set(rows()) == {"alloc: any free port of a partial domain"}
    assert len(list(catalogue())) == len(rows()) * len(GUESTS) * len(ABIS) * len(RELEASES)


def test_every_limit_keeps_something_out_and_not_everything() -> None:
    for limit in _LIMITS:
        assert any(re.fullmatch(limit.rows, row) for row in rows()), limit.rows
    cells = list(catalogue())
    assert any(cell.why_not for cell in cells) and any(not cell.why_not for cell in cells)


def test_every_row_that_a_test_declares_exists_and_can_be_met() -> None:
    folder = Path(__file__).resolve().parents[2] / "testcases" / "conformance"
    text = "".join(path.read_text() for path in sorted(folder.glob("test_*.py")))
    declared = {row for row in re.findall(r'"([a-z_]+: [^"]+)"', text)}
    assert declared and declared <= SPEC_ROWS, declared - SPEC_ROWS
    for row in declared:
        scopes = (Scope(g, a, r) for g in GUESTS for a in ABIS for r in RELEASES)
        assert any(not why_not(row, scope) for scope in scopes), row


def test_dom0_may_ask_for_the_channel_that_xen_has_in_another_domain() -> None:
    dom0 = Scope("x86_64 dom0", "FIFO", Release(4, 17))
    assert not why_not("status: EACCES Xen-bound", dom0)
    assert why_not("close: EINVAL Xen-bound", dom0) and why_not("status: EACCES Xen-bound", PV)


def _run(path: Path, *found: records.Record) -> Path:
    directory = RunDirectory(path)
    path.mkdir()
    journal = Journal(directory.journal)
    for record in found:
        journal.append(record)
    journal.close()
    return path


def _cells(*found: str, guest: str = PV.guest, abi: str = "FIFO") -> records.Cells:
    return records.Cells("h", "a-test", guest, abi, "4.17", found)


def test_only_what_a_journal_says_counts(tmp_path: Path) -> None:
    one = _run(tmp_path / "one", _cells("close: FREE"))
    two = _run(tmp_path / "two", _cells("close: FREE", abi="2L"), _cells("status: reply"))
    found = coverage([one, two])
    tested = {(line.cell.row, line.cell.scope.abi) for line in found.cells if line.tests}
    assert tested == {("close: FREE", "FIFO"), ("close: FREE", "2L"), ("status: reply", "FIFO")}
    assert found.count("tested") == 3
    assert 0 < found.share < 0.01
    assert not found.contradictions
    assert coverage([]).count("tested") == 0


def test_a_tree_with_other_rules_than_its_release_is_not_the_catalogues(tmp_path: Path) -> None:
    own = by_version(Release(4, 17))
    patched = replace(own, held=own.held ^ {Rule.POLL_REJECTS_UNUSABLE})
    assert scope_of("x86_64 pv", "FIFO", own) == PV
    place = scope_of("x86_64 pv", "FIFO", patched)
    assert place != PV and not why_not("poll: EINVAL not usable", PV)
    assert why_not("poll: EINVAL not usable", place)
    names = tuple(sorted(patched.held))
    run = _run(tmp_path / "one", replace(_cells("set_priority: ENOSYS 2L"), rules=names))
    found = coverage([run])
    assert found.count("tested") == 0 and not found.contradictions


def test_a_cell_met_against_the_catalogue_is_told(tmp_path: Path) -> None:
    run = _run(tmp_path / "one", _cells("set_priority: ENOSYS 2L"))
    (told,) = coverage([run]).contradictions
    assert "2L only" in told and "x86_64 pv" in told


def test_what_no_host_could_have_is_not_missing_unless_another_host_had_it(tmp_path: Path) -> None:
    why = "no paging for such guests"
    kept = [records.Cells("h", "a-test", PV.guest, abi, "4.17", (), why_not=why) for abi in ABIS]
    one = _run(tmp_path / "one", *kept)
    lines = [line for line in coverage([one]).cells if line.cell.scope == PV]
    assert lines and {line.state for line in lines} == {"unreachable"}
    assert why in {line.why_not for line in lines}
    two = _run(tmp_path / "two", _cells("close: FREE"))
    found = coverage([one, two])
    assert found.count("tested") == 1 and not found.contradictions
    other = [line for line in found.cells if line.cell.scope.release == Release(4, 14)]
    assert "missing" in {line.state for line in other}


def test_page_and_document(tmp_path: Path) -> None:
    run = _run(tmp_path / "one", _cells("close: FREE"))
    page = write(coverage([run]), tmp_path).read_text()
    assert page.count('class="c tested"') == 1
    assert "a-test" in page and "heap" in page
    about = json.loads((tmp_path / "coverage.json").read_text())
    assert about == document(coverage([run]))
    assert about["tested"] == 1
    assert about["tested"] + about["missing"] + about["unreachable"] == len(about["cells"])


def test_no_run_no_coverage(tmp_path: Path) -> None:
    from harness.verdict import ConfigError

    with pytest.raises(ConfigError):
        coverage([tmp_path / "nothing"])
