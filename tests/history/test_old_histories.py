# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories in ``data/``, written by the harness as of f5ceb7e: they load and check as they did.

All are the simulator's: a legal one on clocks that differ, one with a domain that crashed, and one
with a send that was lost.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.history.checker import check
from harness.history.format.parquet import Reader, read
from harness.verdict import Verdict

DATA = Path(__file__).parent / "data"
LOST = ("lost-event", 216, (62, 116, 127, 193, 216, 244, 247))

# By file: (flavour, threads, start of the digest), and what ``check`` returned:
# (verdict, operations, undecided, in flight, violations).
OLD = {
    "legal": (("counter", 9, "c726f21d"), (Verdict.PASS, 423, 0, (), [])),
    "crashed-domain": (("rwlock", 8, "73b00f82"), (Verdict.PASS, 294, 1, (222, 237, 238), [])),
    "lost-event": (("spinlock", 6, "89d8cd44"), (Verdict.FAIL, 252, 0, (), [LOST])),
}


@pytest.mark.parametrize("name", OLD)
def test_an_old_history_loads_and_checks_as_it_did(name: str) -> None:
    path = DATA / f"{name}.parquet"
    (flavour, threads, digest), expected = OLD[name]
    reader = Reader(path)
    assert reader.digest.startswith(digest)
    assert (reader.head.flavour, len(reader.head.threads)) == (flavour, threads)
    for result in (check(path), check(read(path))):
        violations = [(v.property, v.culprit, v.operations) for v in result.violations]
        assert result.found == len(violations)
        assert (
            result.verdict,
            result.operations,
            result.undecided,
            result.in_flight,
            violations,
        ) == expected
