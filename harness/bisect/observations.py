# SPDX-License-Identifier: GPL-2.0-or-later
"""What was observed so far: the result of every try of every revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from harness.bisect.signature import Signature

# A revision whose tries all end with another failure, this many at least, cannot be tested: that
# failure comes first and hides the one that is searched.
MASKING_FAILURES = 3
BOOT = "boot"  # name of the test that the host comes up: one try in each boot
TryOutcome = Literal["pass", "fail", "fault"]


@dataclass(frozen=True)
class Try:
    """One test that ran once, or could not run ("fault": the lab failed)."""

    test: str
    outcome: TryOutcome
    signature: Signature | None = None  # of a failure
    message: str = ""


@dataclass(frozen=True)
class Built:
    """A revision was built.  ``content`` is a digest of those parts of it that run."""

    revision: str
    content: str
    seconds: float


@dataclass(frozen=True)
class Tested:
    """A revision was tested in one boot, or the boot failed."""

    __test__: ClassVar[bool] = False  # pytest: this is a value, not a test class
    revision: str
    tries: tuple[Try, ...]
    seconds: float  # of all tries together
    boot_seconds: float
    place: str = ""  # the run's directory
    stage: str = ""  # the purpose: harness.bisect.search.Stage


@dataclass(frozen=True)
class Skipped:
    """A revision cannot be tested: it does not build, or does not boot."""

    revision: str
    why: str


Event = Built | Tested | Skipped


@dataclass(frozen=True)
class Counts:
    """The tries of one revision, counted."""

    passes: int = 0
    fails: int = 0  # with the failure that is searched
    others: int = 0  # with another failure
    faults: int = 0

    @property
    def conclusive(self) -> int:
        """How many tries say something about the failure that is searched."""
        return self.passes + self.fails

    @property
    def masked(self) -> bool:
        """Whether another failure always comes first and hides the one that is searched."""
        return self.others >= MASKING_FAILURES and not self.conclusive


@dataclass(frozen=True)
class Observations:
    """All events of a bisection, in their order; the other fields follow from ``events``."""

    given_target: Signature | None = None  # the failure to search, where the user gave one
    events: tuple[Event, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)  # of builds, by revision
    skipped: Mapping[str, str] = field(default_factory=dict)  # reasons, by revision
    tested: tuple[Tested, ...] = ()
    boot: bool = False  # the bring-up of the host is searched, and not a test

    def with_event(self, event: Event) -> Observations:
        """Return these observations and ``event``."""
        digests, skipped, tested = dict(self.digests), dict(self.skipped), self.tested
        if isinstance(event, Built):
            digests[event.revision] = event.content
        elif isinstance(event, Skipped):
            skipped[event.revision] = event.why
        else:
            tested = (*tested, event)
        events = (*self.events, event)
        return replace(self, events=events, digests=digests, skipped=skipped, tested=tested)

    def target(self, bad: str) -> Signature | None:
        """Return the failure that is searched; None as long as nobody has seen it.

        If the user gave none, it is the most frequent failure of the bad end ``bad``; of equally
        frequent ones the first.
        """
        if self.given_target is not None:
            return self.given_target
        failures = Counter(t.signature for t in self.tries(bad) if t.signature is not None)
        return failures.most_common(1)[0][0] if failures else None

    def why_untestable(self, revision: str, signature: Signature | None) -> str:
        """Return why ``revision`` cannot be tested for failure ``signature``; "" if it can."""
        if revision in self.skipped:
            return self.skipped[revision]
        if self.counts(revision, signature).masked:
            others = (t.signature for t in self.tries(revision) if t.outcome == "fail")
            return f"another failure comes first: {next(others)}"
        return ""

    def tries(self, revision: str) -> Iterable[Try]:
        """Yield the tries of ``revision``, oldest first."""
        for event in self.tested:
            if event.revision == revision:
                yield from event.tries

    def is_about(self, one: Try, signature: Signature | None) -> bool:
        """Return whether a pass of ``one`` says anything about the failure ``signature``."""
        return one.test == signature.test if signature else (one.test == BOOT) is self.boot

    def counts(self, revision: str, signature: Signature | None) -> Counts:
        """Count the tries of ``revision``.  Only passes of the test in ``signature`` count."""
        passes = fails = others = faults = 0
        for one in self.tries(revision):
            if one.outcome == "fault":
                faults += 1
            elif one.outcome == "fail" and one.signature == signature:
                fails += 1
            elif one.outcome == "fail":
                others += 1
            elif self.is_about(one, signature):
                passes += 1
        return Counts(passes, fails, others, faults)
