# SPDX-License-Identifier: GPL-2.0-or-later
"""The model against the published answers: a checkout of herdtools7.

Its catalogue has lists of tests with "Allowed" or "Forbidden", and its regression tests of single
instructions have the final states that herd finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.binary.litmus.condition import Formula
from harness.binary.litmus.herd import read_expected, read_kinds, read_test
from harness.binary.litmus.outside import OutsideError
from harness.binary.litmus.run import Ran, run
from harness.verdict import ConfigError

# The catalogues of plain memory accesses that are held against the architecture's own model.  That
# of down-one-leg has answers of a proposal, which has a model of its own.
CATALOGUES = ("aarch64", "aarch64-cas", "aarch64-mixed", "aarch64-pick", "aarch64-readers-guide")
_INSTRUCTIONS = Path("herd/tests/instructions/AArch64")


@dataclass(frozen=True)
class Compared:
    """One test: what was published, and what the model says."""

    folder: str
    name: str
    published: str = ""
    found: str = ""
    outside: str = ""  # why the test is not covered

    @property
    def agrees(self) -> bool:
        return self.published == self.found


def compare(checkout: Path) -> Iterator[Compared]:
    """Run every test of ``checkout`` that has a published answer.

    ConfigError if it has none.
    """
    cases = [*_catalogues(checkout), *_instructions(checkout)]
    if not cases:
        raise ConfigError(
            "has no catalogue of litmus tests",
            where=str(checkout),
            hint="give a checkout of https://github.com/herd/herdtools7",
        )
    for path, answer in cases:
        yield _compared(path.relative_to(checkout), path, answer)


def _catalogues(checkout: Path) -> Iterator[tuple[Path, bool | Path]]:
    for name in CATALOGUES:
        folder = checkout / "catalogue" / name / "tests"
        kinds = read_kinds(folder / "kinds.txt") if (folder / "kinds.txt").exists() else {}
        for test in sorted(kinds):
            path = folder / f"{test}.litmus"
            if path.exists():
                yield path, kinds[test]


def _instructions(checkout: Path) -> Iterator[tuple[Path, bool | Path]]:
    for expected in sorted((checkout / _INSTRUCTIONS).glob("*.litmus.expected")):
        yield expected.with_suffix(""), expected


def _compared(place: Path, path: Path, answer: bool | Path) -> Compared:
    folder, name = str(place.parent), place.stem
    try:
        if isinstance(answer, Path):
            states = read_expected(answer)
            published, found = _counts(run(read_test(path)), states)
        else:
            published, found = answered(answer), answered(run(read_test(path)).observable)
    except OutsideError as error:
        return Compared(folder, name, outside=str(error))
    return Compared(folder, name, published, found)


def answered(observable: bool) -> str:
    """Return the word that the catalogue has for it."""
    return "Allowed" if observable else "Forbidden"


def _counts(ran: Ran, states: tuple[Formula, ...]) -> tuple[str, str]:
    """Return how many final states herd lists, and which of them, and others, the model finds."""
    found = [[state(final.holds) for state in states] for final in ran.finals]
    missing = sum(not any(one[n] for one in found) for n in range(len(states)))
    more = sum(not any(one) for one in found)
    told = f"{len(states)} states"
    differs = f"{told}, {missing} of them not found, {more} others" if missing or more else told
    return told, differs
