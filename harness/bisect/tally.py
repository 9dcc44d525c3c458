"""What is known so far: what every test of every revision said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.bisect.signature import Signature

OTHERS = 3  # tries that all end with another failure
BOOT = "boot"  # the test that a host comes up: one try each time
Outcome = Literal["pass", "fail", "fault"]


@dataclass(frozen=True)
class Try:
    """One test that ran once, or could not run ("fault": the lab failed)."""

    test: str
    outcome: Outcome
    signature: Signature | None = None  # of a failure
    message: str = ""


@dataclass(frozen=True)
class Built:
    """A revision was built.  ``content`` is a digest of what of it Xen loads and runs."""

    revision: str
    content: str
    seconds: float


@dataclass(frozen=True)
class Tested:
    """A revision was booted, or it was tried, and tested."""

    __test__: ClassVar[bool] = False  # pytest: this is a value, not a test class
    revision: str
    tries: tuple[Try, ...]
    seconds: float  # of all tries together
    boot_seconds: float
    place: str = ""  # the run's directory
    stage: str = ""  # what for: harness.bisect.plan.Stage


@dataclass(frozen=True)
class Skipped:
    """A revision cannot be tested: it does not build, or does not boot."""

    revision: str
    why: str


Event = Built | Tested | Skipped


@dataclass(frozen=True)
class Tally:
    """The tries of one revision, counted."""

    passes: int = 0
    fails: int = 0  # with the failure that is looked for
    others: int = 0  # with another one
    faults: int = 0

    @property
    def told(self) -> int:
        """Tries from which something was learnt."""
        return self.passes + self.fails

    @property
    def blind(self) -> bool:
        """Whether another failure always comes first: what is looked for cannot be seen there."""
        return self.others >= OTHERS and not self.told


@dataclass(frozen=True)
class State:
    """All events of a bisection, in their order; everything else follows from them."""

    wanted: Signature | None = None  # given beforehand; else the bad end's most frequent one
    events: tuple[Event, ...] = ()
    content: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    tested: tuple[Tested, ...] = ()

    def after(self, event: Event) -> State:
        """Return the state once ``event`` has happened."""
        content, skipped, tested = dict(self.content), dict(self.skipped), self.tested
        if isinstance(event, Built):
            content[event.revision] = event.content
        elif isinstance(event, Skipped):
            skipped[event.revision] = event.why
        else:
            tested = (*tested, event)
        return State(self.wanted, (*self.events, event), content, skipped, tested)

    def signature(self, bad: str) -> Signature | None:
        """Return the failure that is looked for; None as long as it was not seen.

        Without one given it is what the bad end shows most often, the first such one.
        """
        if self.wanted is not None:
            return self.wanted
        seen = Counter(t.signature for t in self.tries(bad) if t.signature is not None)
        return seen.most_common(1)[0][0] if seen else None

    def untestable(self, revision: str, signature: Signature | None) -> str:
        """Return why nothing can be learnt of ``revision``; "" if something can."""
        if revision in self.skipped:
            return self.skipped[revision]
        if self.tally(revision, signature).blind:
            others = (t.signature for t in self.tries(revision) if t.outcome == "fail")
            return f"another failure comes first: {next(others)}"
        return ""

    def tries(self, revision: str) -> Iterable[Try]:
        """Yield the tries of ``revision``, oldest first."""
        for event in self.tested:
            if event.revision == revision:
                yield from event.tries

    def tally(self, revision: str, signature: Signature | None) -> Tally:
        """Count the tries of ``revision``; only tests with the name of the failing one count."""
        passes = fails = others = faults = 0
        for one in self.tries(revision):
            if one.outcome == "fault":
                faults += 1
            elif one.outcome == "fail" and one.signature == signature:
                fails += 1
            elif one.outcome == "fail":
                others += 1
            elif one.test == signature.test if signature else one.test != BOOT:
                passes += 1
        return Tally(passes, fails, others, faults)
