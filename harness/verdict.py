# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts, how they combine, and the exceptions that carry them.

The six outcomes are KCIDB's ("status" of a test in the KCIDB I/O schema).  An
exception's class says who is to blame, and so fixes the verdict and the exit
code: a fault of the machine is never a FAIL of the hypervisor.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from harness.evidence import Evidence, words
from harness.shown import without_secrets


class Verdict(StrEnum):
    """Outcome of one test, host or run."""

    FAIL = "FAIL"  # the hypervisor under test did something the model forbids
    ERROR = "ERROR"  # the test or the harness itself is broken
    MISS = "MISS"  # the lab (machine, network, toolstack) failed: nothing was learnt
    PASS = "PASS"  # everything observed was allowed
    DONE = "DONE"  # finished, measures something, claims nothing
    SKIP = "SKIP"  # does not apply here, with a reason


# Most severe first: KCIDB's own order of status values.
SEVERITY: tuple[Verdict, ...] = (
    Verdict.FAIL,
    Verdict.ERROR,
    Verdict.MISS,
    Verdict.PASS,
    Verdict.DONE,
    Verdict.SKIP,
)

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_USAGE = 2
EXIT_LAB = 3
EXIT_INTERRUPTED = 130

_EXIT: dict[Verdict, int] = {
    Verdict.FAIL: EXIT_FAIL,
    Verdict.ERROR: EXIT_LAB,
    Verdict.MISS: EXIT_LAB,
    Verdict.PASS: EXIT_PASS,
    Verdict.DONE: EXIT_PASS,
    Verdict.SKIP: EXIT_PASS,
}


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe of ``verdicts``; MISS when there is none (nothing was learnt)."""
    seen = set(verdicts)
    return next((v for v in SEVERITY if v in seen), Verdict.MISS)


def exit_code(verdict: Verdict) -> int:
    """Return the process exit code that stands for ``verdict``."""
    return _EXIT[verdict]


class HarnessError(Exception):
    """An error that a person can act on: what happened, where, what to do next.

    ``what`` is a line of text, or the evidence of a failure, which then says it in words.
    ``story`` is what there is to read besides, of many lines.  Who decides on an error looks at
    its class and its ``evidence``, never at its text.  Used directly for faults of the harness
    itself.
    """

    verdict = Verdict.ERROR
    exit_code = EXIT_LAB

    def __init__(
        self, what: str | Evidence, *, where: str = "", hint: str = "", story: str = ""
    ) -> None:
        self.evidence: Evidence | None = None if isinstance(what, str) else what
        if not isinstance(what, str):
            story = story or words.story(what)
            what = words.message(what)
        self.what = without_secrets(what)
        self.where = without_secrets(where)
        self.hint = without_secrets(hint)
        self.story = without_secrets(story)
        super().__init__(self.what)

    def after(self, *told: str) -> None:
        """Put ``told`` before the story: what led there."""
        self.story = "\n".join(filter(None, (*told, self.story)))

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}{self.what}{hint}"


class ConfigError(HarnessError):
    """The user's input is wrong: an option, lab.yaml, a plan."""

    exit_code = EXIT_USAGE


class LabError(HarnessError):
    """The lab failed: machine, network, storage, missing tool, dom0's toolstack."""

    verdict = Verdict.MISS


class BuildError(LabError):
    """The tree under test does not build (``git bisect`` would skip it)."""


class HypervisorError(HarnessError):
    """The hypervisor under test panicked, asserted, hung or broke its contract."""

    verdict = Verdict.FAIL
    exit_code = EXIT_FAIL
