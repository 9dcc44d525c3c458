# SPDX-License-Identifier: GPL-2.0-or-later
"""mutants.jsonl: what is known of each mutant, written to the disk as it becomes known.

A run that was interrupted goes on in the same directory, if it is the same: the first line says of
which Xen and which mutants it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import bounded
from harness.corpus.mutants.outcome import Outcome
from harness.verdict import ConfigError, LabError

FILE = "mutants.jsonl"
_LARGEST = 64 << 20  # bytes


@dataclass(frozen=True)
class Reach:
    """What a test of a suite comes by, seen with no mutant on."""

    suite: str
    node: str  # pytest's name of the test
    seconds: float  # wall time
    verdict: str
    met: frozenset[int]  # the mutants it comes by


class MutantJournal:
    """The journal in a directory, with what it has already."""

    def __init__(self, place: Path, about: Mapping[str, Any]) -> None:
        """Open the journal in ``place``, or begin one.

        ``about``: what makes it this run.  ConfigError if the journal there is another run's.
        """
        self.path = place / FILE
        self.outcomes: dict[tuple[int, str], Outcome] = {}
        self.reaches: dict[str, list[Reach]] = {}
        self.same_code: frozenset[int] | None = None
        lines = _lines(self.path) if self.path.is_file() else []
        if not lines:
            self._append({"about": dict(about)})
        elif lines[0].get("about") != json.loads(json.dumps(dict(about))):
            raise ConfigError(
                "these are results of other mutants, or of another Xen",
                where=str(self.path),
                hint="give another --out, or the options that it was begun with",
            )
        for line in lines[1:]:
            self._take(line)

    def add(self, outcome: Outcome) -> None:
        """Write ``outcome``; it is on the disk when this returns."""
        self._append({"outcome": asdict(outcome)})
        self.outcomes[outcome.number, outcome.suite] = outcome

    def add_reaches(self, suite: str, reaches: list[Reach]) -> None:
        """Write what the tests of a suite come by."""
        rows = [asdict(each) | {"met": sorted(each.met)} for each in reaches]
        self._append({"suite": suite, "reaches": rows})
        self.reaches[suite] = reaches

    def is_killed(self, number: int) -> bool:
        """Return whether a suite has killed mutant ``number``."""
        return any(
            one.fate == "killed" for (each, _), one in self.outcomes.items() if each == number
        )

    def add_same_code(self, numbers: frozenset[int]) -> None:
        """Write which mutants have the original's object code."""
        self._append({"same_code": sorted(numbers)})
        self.same_code = numbers

    def _take(self, line: Mapping[str, Any]) -> None:
        if "outcome" in line:
            outcome = Outcome(**line["outcome"])
            self.outcomes[outcome.number, outcome.suite] = outcome
        elif "reaches" in line:
            rows = [Reach(**row | {"met": frozenset(row["met"])}) for row in line["reaches"]]
            self.reaches[str(line["suite"])] = rows
        elif "same_code" in line:
            self.same_code = frozenset(line["same_code"])

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                if file.tell() and not self._ends_whole():
                    file.write(b"\n")  # the last writer was killed in the middle of a line
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise LabError(f"cannot write: {error.strerror}", where=str(self.path)) from error


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """Return the whole lines; one that was cut off when its writer was killed is left out."""
    found: list[Mapping[str, Any]] = []
    for line in path.read_bytes()[:_LARGEST].splitlines():
        try:
            value = bounded.json_value(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
