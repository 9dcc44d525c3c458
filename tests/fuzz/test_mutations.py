# SPDX-License-Identifier: GPL-2.0-or-later
"""All readers, many changed inputs: a right answer, one with a warning, or an error line."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.fuzz.outcomes import attack_all, table
from tests.fuzz.readers import all_readers

_MEMORY_KIB = 700 << 10  # more than what all readers together need before


def test_no_reader_is_silently_wrong_or_ends_in_a_traceback_or_hangs(
    tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    readers = all_readers(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = attack_all(readers, pytestconfig.getoption("--mutations"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    bad = [line for row in rows for line in row.bad]
    with capsys.disabled():
        print("\n", table(rows), f"\nmemory: {grown / 1024:.0f} MiB more at the most")
    assert not bad, "\n".join(bad)
    assert grown < _MEMORY_KIB
