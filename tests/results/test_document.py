# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document and the journal keep to what docs/results.md promises."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from harness.results.directory import create
from harness.results.document import run_document
from harness.results.html import render_html
from harness.results.journal import Journal
from harness.results.records import KINDS, PHASES, HostStart, Model, Patch, RunStart
from harness.results.store import load

from . import runs

_DOCS = (Path(__file__).parents[2] / "docs" / "results.md").read_text()


def _rows(heading: str) -> list[list[str]]:
    """Return the `words` in each cell of the tables below ``heading``, row by row."""
    section = re.split(r"^## ", _DOCS, flags=re.MULTILINE)
    (body,) = [text for text in section if text.startswith(f"{heading}\n")]
    lines = [line for line in body.splitlines() if line.startswith("| `")]
    return [re.findall(r"`([^`]+)`", line) for line in lines]


def test_every_documented_key_is_there_and_no_other(tmp_path: Path) -> None:
    document = run_document(load(runs.failing(tmp_path / "r").path))
    documented = [row[0] for row in _rows("The JSON document")]
    host_keys = documented.index("name")  # the second table begins there
    assert set(document) == set(documented[:host_keys])
    for host in document["hosts"]:
        assert set(host) == set(documented[host_keys:])


def test_lists_within_a_host_have_the_documented_keys(tmp_path: Path) -> None:
    host = run_document(load(runs.failing(tmp_path / "r").path))["hosts"][0]
    rows = {row[0]: row[1:] for row in _rows("The JSON document") if len(row) > 1}
    for key in ("domains", "tests", "leaks"):
        assert list(host[key][0]) == rows[key]
    assert rows["seconds"] == list(PHASES)
    assert set(host["seconds"]) == set(PHASES)


def test_series_and_model_are_told(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    patch = Patch("v2.eml", "[PATCH v2 2/2] xen/evtchn: rework", "6467d1e4ec")
    model = Model("counter", "recognised", "atomic_t lock in struct evtchn (sched.h:88)")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("h",)))
        journal.append(
            HostStart(
                "h",
                "arm64",
                "tcg",
                "",
                "counter",
                "ab",
                "4.15",
                "git",
                "built",
                "",
                (patch,),
                model,
            )
        )
    run = load(directory.path)
    (host,) = run_document(run)["hosts"]
    assert host["series"] == [
        {"file": "v2.eml", "subject": "[PATCH v2 2/2] xen/evtchn: rework", "tree": "6467d1e4ec"}
    ]
    assert host["model"] == {"name": "counter", "how": "recognised", "from": model.source}
    assert {*host["series"][0], *host["model"]} <= {
        word for row in _rows("The JSON document") for word in row
    }
    page = render_html(run)
    assert patch.subject in page and model.source in page


def test_every_kind_of_record_is_documented_with_its_fields() -> None:
    documented = {row[0]: row[1:] for row in _rows("The journal")}
    actual = {
        kind: [field.name for field in dataclasses.fields(cls)] for kind, cls in KINDS.items()
    }
    assert documented == actual


def test_values_are_plain_json(tmp_path: Path) -> None:
    document = run_document(load(runs.good(tmp_path / "r").path))
    assert json.loads(json.dumps(document)) == document
    assert (document["verdict"], document["seed"], document["state"]) == ("PASS", 7, "finished")
    assert document["report"] == str(tmp_path / "r" / "report.html")
    (dom0, *domus) = document["hosts"][0]["domains"]
    assert dom0 == {"name": "dom0", "type": "dom0", "operations": 24117}
    assert len(domus) == 2


def test_an_interrupted_run_has_the_same_keys(tmp_path: Path) -> None:
    whole = run_document(load(runs.good(tmp_path / "a").path))
    part = run_document(load(runs.interrupted(tmp_path / "b").path))
    assert set(part) == set(whole)
    assert {frozenset(host) for host in part["hosts"]} == {frozenset(whole["hosts"][0])}
    assert (part["verdict"], part["message"]) == ("MISS", "interrupted")
    (problem,) = part["problems"]
    assert problem.endswith("cut off, dropped")
