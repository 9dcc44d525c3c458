"""How long a fault takes to show: by its schedule, and under stress on the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.agent.load import LoadPlan
from harness.evidence import Evidence
from harness.interleave.loop import Bench, Tried, run_orders
from harness.interleave.scenarios import Scenario
from harness.interleave.walk import Outcome
from harness.model.explore.interleavings import Interleaving
from harness.run.load import Load
from harness.run.session import Session
from harness.verdict import HarnessError, HypervisorError, LabError

_ROUND_SECONDS = 2.0  # of stress between two looks
_LOAD_SECONDS = 5.0

Stress = Callable[[Session, int], str]  # (machine, seed) -> what was seen; "" nothing


@dataclass(frozen=True)
class Shown:
    """One try: seconds until the fault was seen, and how it showed; "" if it did not in time."""

    seconds: float
    how: str
    evidence: Evidence | None = None  # the same as a value


@dataclass(frozen=True)
class Exposure:
    """Forced and stressed tries, side by side."""

    forced: tuple[Shown, ...]
    stressed: tuple[Shown, ...]
    order: Interleaving

    @property
    def ratio(self) -> float | None:
        """How many times faster the schedule is, in the median; None if either never showed.

        A try under stress that showed nothing counts as its whole time, so that the ratio is a
        lower bound.
        """
        if not self.stressed or any(not shown.how for shown in self.forced):
            return None
        forced = statistics.median(shown.seconds for shown in self.forced)
        return statistics.median(shown.seconds for shown in self.stressed) / forced


def expose(
    on: Bench,
    scenario: Scenario,
    orders: Sequence[Interleaving],
    stress: Stress,
    *,
    forced: int,
    stressed: int,
    patience: float,
    notice: Callable[[str], None],
) -> Exposure | None:
    """Find an order that shows a fault, take it ``forced`` times; stress ``stressed`` times.

    ``patience``: seconds of stress after which a try is given up.  None if no order shows any.
    """
    found = _first(on, scenario, orders, notice)
    if found is None:
        return None
    shown = []
    for number in range(forced):
        (tried,) = run_orders(on, scenario, [found.order], lambda _: None)
        same = tried.walked.outcome is Outcome.MISMATCH
        walked = tried.walked
        how, seen = (walked.why, walked.evidence) if same else ("", None)
        shown.append(Shown(walked.seconds, how, seen))
        notice(f"forced {number + 1} of {forced}: {shown[-1].how or 'nothing seen'}")
    under = []
    for number in range(stressed):
        try:
            under.append(_stress(on, stress, number * 1000, patience))
        except LabError as error:  # what was measured stands
            notice(f"stressed {number + 1} of {stressed}: given up: {error}")
            break
        notice(
            f"stressed {number + 1} of {stressed}: {under[-1].seconds:.1f} s, "
            f"{under[-1].how or 'nothing seen'}"
        )
    return Exposure(tuple(shown), tuple(under), found.order)


def _first(
    on: Bench, scenario: Scenario, orders: Sequence[Interleaving], notice: Callable[[str], None]
) -> Tried | None:
    for number, order in enumerate(orders, 1):
        (tried,) = run_orders(on, scenario, [order], lambda _: None)
        if tried.walked.outcome is Outcome.MISMATCH:
            notice(f"order {number} of {len(orders)}: {tried.walked.why}")
            return tried
    return None


def _stress(on: Bench, stress: Stress, seed: int, patience: float) -> Shown:
    """Stress a pristine machine until something shows; what a restore takes does not count."""
    on.live.restore(on.stub.held())
    spent = 0.0
    while spent < patience:
        began = time.monotonic()
        evidence: Evidence | None = None
        try:
            how = stress(on.live, seed + int(spent))
        except HarnessError as error:
            cause = on.live.cause(error)
            if not isinstance(cause, HypervisorError):
                raise
            how, evidence = cause.what, cause.evidence
        spent += time.monotonic() - began
        if how:
            on.live.restore(on.stub.held())
            return Shown(spent, how, evidence)
    on.live.restore(on.stub.held())
    return Shown(spent, "")


def race(kind: str) -> Stress:
    """Two vCPUs race for one channel's lock without pause: the hardest stress that we have."""

    def stress(live: Session, seed: int) -> str:
        seen = live.agents["dom0"].race(kind, _ROUND_SECONDS, seed + 1)
        if seen.invented or seen.lost:
            return f"{seen.invented} events invented, {seen.lost} lost in {seen.rounds} rounds"
        return ""

    return stress


def load(live: Session, seed: int) -> str:
    """The ordinary load of ``run``, judged."""
    under = Load(live)
    under.judge(under.run(f"load-{seed}", LoadPlan(seed=seed, duration_s=_LOAD_SECONDS)))
    return ""


STRESSES: dict[str, Stress] = {
    "close-duel": race("close"),
    "unmask-duel": race("unmask"),
    "load": load,
}
