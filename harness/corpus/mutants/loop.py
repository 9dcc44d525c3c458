# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop over the suites and the mutants: each mutant gets those tests that come by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.corpus.mutants.choose import Mutant
from harness.corpus.mutants.journal import MutantJournal, Reach
from harness.corpus.mutants.outcome import Outcome, judged, tried_again
from harness.verdict import LabError, Verdict

_USABLE = Verdict.PASS


class Bench(Protocol):
    """A host with the Xen that has the mutants; tests run on it."""

    def watch(self, suite: str, count: int, out: Path, /) -> list[Reach]:
        """Run the tests of ``suite`` with no mutant on; return what each comes by of ``count``."""
        ...

    def run(
        self, suite: str, number: int, nodes: Sequence[str], out: Path, /
    ) -> Sequence[Mapping[str, Any]]:
        """Run the tests ``nodes``, in this order and until one does not pass, with mutant
        ``number`` on and the machine as it was before the first test.

        Returns the tests as in the document of ``run --json``.
        """
        ...


def run_mutants(
    mutants: Sequence[Mutant],
    suites: Sequence[str],
    *,
    bench: Bench,
    journal: MutantJournal,
    out: Path,
    notice: Callable[[Outcome], None],
) -> None:
    """Run each of ``mutants`` in each of ``suites``; what ``journal`` knows is not run again.

    ``notice`` is called after each outcome is in the journal.  A mutant with which the machine
    does not answer is tried once more: that may have been the machine's fault.
    """
    count = max((one.number for one in mutants), default=0)
    for suite in suites:
        if suite not in journal.reaches:
            journal.add_reaches(suite, _watched(bench, suite, count, out))
        for one in mutants:
            if (one.number, suite) not in journal.outcomes:
                outcome = _outcome(one, suite, bench, journal.reaches[suite], out)
                journal.add(outcome)
                notice(outcome)


def _watched(bench: Bench, suite: str, count: int, out: Path) -> list[Reach]:
    """Return what the tests of ``suite`` come by; LabError if none passes without a fault."""
    reaches = bench.watch(suite, count, out / "runs" / f"{suite}-original")
    if not any(each.verdict == _USABLE for each in reaches):
        raise LabError(
            "no test passes with no mutant on: they would say nothing about the mutants",
            where=f"the suite {suite}",
            hint=f"see {out / 'runs' / f'{suite}-original'}",
        )
    return reaches


def _outcome(
    mutant: Mutant, suite: str, bench: Bench, reaches: Sequence[Reach], out: Path
) -> Outcome:
    # The quickest first: most mutants that are killed are killed by a test of a moment.
    by = sorted(
        (each for each in reaches if mutant.number in each.met and each.verdict == _USABLE),
        key=lambda each: (each.seconds, each.node),
    )
    if not by:
        return Outcome(mutant.number, suite, "not-reached")
    nodes = [each.node for each in by]

    def tried(attempt: str) -> Outcome:
        began = time.monotonic()
        folder = out / "runs" / f"{suite}-{mutant.number}{attempt}"
        tests = bench.run(suite, mutant.number, nodes, folder)
        return judged(mutant.number, suite, tests, time.monotonic() - began, len(nodes))

    first = tried("")
    return first if first.fate != "unclear" else tried_again(first, tried("-again"))
