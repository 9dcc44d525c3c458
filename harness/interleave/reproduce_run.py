# SPDX-License-Identifier: GPL-2.0-or-later
"""``interleave expose``: boot a host, compare a forced order with stress, return the document."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.interleave.booted import booted
from harness.interleave.force_orders import attach_debugger
from harness.interleave.reproduce import STRESSES, Attempt, reproduce
from harness.interleave.scenarios import Scenario
from harness.interleave.selection import OrderSelection
from harness.results import records
from harness.run.plan import Plan
from harness.verdict import Verdict


def run_reproduce(
    plan: Plan,
    scenario: Scenario,
    selection: OrderSelection,
    stress: str,
    *,
    forced: int,
    stressed: int,
    stress_timeout: float,
) -> dict[str, Any]:
    """Return the document of ``interleave expose --json``; parameters as ``reproduce`` has them."""
    with booted(plan) as live, attach_debugger(live) as debugged:
        orders = selection.orders(scenario, live.build.design, live.host.arch)
        with live.recorder.phase(live.host.name, "load"):
            found = reproduce(
                debugged,
                scenario,
                orders,
                STRESSES[stress],
                forced=forced,
                stressed=stressed,
                stress_timeout=stress_timeout,
                notice=live.recorder.progress.note,
            )
        verdict = Verdict.DONE if found is None else Verdict.FAIL
        first = None if found is None else found.forced[0]
        live.recorder.add(
            records.Test(
                live.host.name,
                f"expose-{scenario.name}",
                verdict,
                0.0,
                "" if first is None else f"{scenario.name}: {first.how}",
                evidence=None if first is None else first.evidence,
            )
        )
    head = {
        "scenario": scenario.name,
        "flavour": plan.hypervisor.flavour.name,
        "host": plan.hosts[0].name,
    }
    if found is None:
        return head | {"verdict": verdict, "exposed": False}
    return head | {
        "verdict": verdict,
        "exposed": True,
        "order": [step.thread for step in found.order],
        "forced": [asdict(attempt) for attempt in found.forced],
        "reproduced": sum(bool(attempt.how) for attempt in found.forced),
        "stress": stress,
        "stressed": [asdict(attempt) for attempt in found.stressed],
        "shown_under_stress": sum(bool(attempt.how) for attempt in found.stressed),
        "median_seconds_forced": _median(found.forced),
        "median_seconds_stressed": _median(found.stressed),
        "times_faster": found.ratio and round(found.ratio, 1),
    }


def _median(attempts: Sequence[Attempt]) -> float | None:
    return round(statistics.median(each.seconds for each in attempts), 3) if attempts else None
