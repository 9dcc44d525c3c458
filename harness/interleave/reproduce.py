# SPDX-License-Identifier: GPL-2.0-or-later
"""How long it takes to show a fault: by a forced order, and by stress on the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.agent.load import LoadPlan
from harness.evidence import Evidence
from harness.interleave.force_orders import DebuggedMachine, TriedOrder, force_orders
from harness.interleave.order_runner import OrderOutcome
from harness.interleave.scenarios import Scenario
from harness.model.explore.interleavings import Interleaving
from harness.run.load import Load
from harness.run.session import Session
from harness.verdict import HarnessError, HypervisorError, LabError

_RACE_SECONDS = 2.0  # one call of a stress; the fault is looked for after each
_LOAD_SECONDS = 5.0

Stress = Callable[[Session, int], str]  # (machine, seed) -> how the fault showed; "" if it did not


@dataclass(frozen=True)
class Attempt:
    """One attempt to show the fault.

    ``how`` is how the fault showed after ``seconds``; "" if it did not show in this time.
    """

    seconds: float
    how: str
    evidence: Evidence | None = None  # what ``how`` says, as a value


@dataclass(frozen=True)
class Comparison:
    """Attempts by a forced order, and attempts by stress."""

    forced: tuple[Attempt, ...]
    stressed: tuple[Attempt, ...]
    order: Interleaving

    @property
    def ratio(self) -> float | None:
        """How many times faster the forced order is than stress; the medians are compared.

        None without attempts by stress, and if the forced order did not show the fault each time.
        An attempt by stress that did not show the fault counts with the time after which it was
        given up: the ratio is then a lower bound.
        """
        if not self.stressed or any(not attempt.how for attempt in self.forced):
            return None
        forced = statistics.median(attempt.seconds for attempt in self.forced)
        return statistics.median(attempt.seconds for attempt in self.stressed) / forced


def reproduce(
    debugged: DebuggedMachine,
    scenario: Scenario,
    orders: Sequence[Interleaving],
    stress: Stress,
    *,
    forced: int,
    stressed: int,
    stress_timeout: float,
    notice: Callable[[str], None],
) -> Comparison | None:
    """Find an order that shows a fault, force it ``forced`` times, then stress ``stressed`` times.

    ``stress_timeout``: seconds after which an attempt by stress is given up.  Return None if no
    order shows a fault.
    """
    found = _first_mismatch(debugged, scenario, orders, notice)
    if found is None:
        return None
    by_order = []
    for number in range(forced):
        (tried,) = force_orders(debugged, scenario, [found.order], lambda _: None)
        result = tried.result
        mismatch = result.outcome is OrderOutcome.MISMATCH
        how, evidence = (result.why, result.evidence) if mismatch else ("", None)
        by_order.append(Attempt(result.seconds, how, evidence))
        notice(f"forced {number + 1} of {forced}: {how or 'no fault seen'}")
    by_stress = []
    for number in range(stressed):
        try:
            by_stress.append(_stress(debugged, stress, number * 1000, stress_timeout))
        except LabError as error:  # the attempts before keep their results
            notice(f"stressed {number + 1} of {stressed}: given up: {error}")
            break
        notice(
            f"stressed {number + 1} of {stressed}: {by_stress[-1].seconds:.1f} s, "
            f"{by_stress[-1].how or 'no fault seen'}"
        )
    return Comparison(tuple(by_order), tuple(by_stress), found.order)


def _first_mismatch(
    debugged: DebuggedMachine,
    scenario: Scenario,
    orders: Sequence[Interleaving],
    notice: Callable[[str], None],
) -> TriedOrder | None:
    for number, order in enumerate(orders, 1):
        (tried,) = force_orders(debugged, scenario, [order], lambda _: None)
        if tried.result.outcome is OrderOutcome.MISMATCH:
            notice(f"order {number} of {len(orders)}: {tried.result.why}")
            return tried
    return None


def _stress(debugged: DebuggedMachine, stress: Stress, seed: int, stress_timeout: float) -> Attempt:
    """Restore the machine and stress it until the fault shows; restoring is not timed."""
    debugged.live.restore(debugged.stub.halted())
    spent = 0.0
    while spent < stress_timeout:
        began = time.monotonic()
        evidence: Evidence | None = None
        try:
            how = stress(debugged.live, seed + int(spent))
        except HarnessError as error:
            cause = debugged.live.cause(error)
            if not isinstance(cause, HypervisorError):
                raise
            how, evidence = cause.what, cause.evidence
        spent += time.monotonic() - began
        if how:
            debugged.live.restore(debugged.stub.halted())
            return Attempt(spent, how, evidence)
    debugged.live.restore(debugged.stub.halted())
    return Attempt(spent, "")


def race(kind: str) -> Stress:
    """Return the stress in which two vCPUs race for one channel's lock without pause.

    ``kind``: what the one of them does, ``close`` or ``unmask``.
    """

    def stress(live: Session, seed: int) -> str:
        counts = live.agents["dom0"].race(kind, _RACE_SECONDS, seed + 1)
        if counts.invented or counts.lost:
            return (
                f"{counts.invented} events invented, {counts.lost} lost in {counts.rounds} rounds"
            )
        return ""

    return stress


def load(live: Session, seed: int) -> str:
    """Run and judge the ordinary load of ``run``; raise what it finds."""
    under = Load(live)
    under.judge(under.run(f"load-{seed}", LoadPlan(seed=seed, duration_s=_LOAD_SECONDS)))
    return ""


STRESSES: dict[str, Stress] = {
    "close-duel": race("close"),
    "unmask-duel": race("unmask"),
    "load": load,
}
