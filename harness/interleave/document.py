# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a run's scenarios: verdicts and messages, and the document for ``--json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.evidence import Evidence
from harness.interleave.force_orders import TriedOrder
from harness.interleave.order_runner import OrderOutcome
from harness.interleave.scenarios import Scenario
from harness.run.session import Session
from harness.verdict import Verdict, combine


@dataclass
class ScenarioResult:
    """The orders of one scenario that were tried so far."""

    scenario: Scenario
    schedules: int  # orders that were to be tried
    tried: list[TriedOrder] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)  # order's number -> replay file
    seconds: float = 0.0
    page: str = ""
    trouble: str = ""  # why it ended early, if Xen is not to blame

    @property
    def verdict(self) -> Verdict:
        """FAIL after a mismatch; PASS if an order was walked and nothing ended it early."""
        outcomes = {each.result.outcome for each in self.tried}
        if OrderOutcome.MISMATCH in outcomes:
            return Verdict.FAIL
        whole = OrderOutcome.WALKED in outcomes and not self.trouble
        return Verdict.PASS if whole else Verdict.MISS

    def of(self, outcome: OrderOutcome) -> list[TriedOrder]:
        """Return the orders with that outcome."""
        return [each for each in self.tried if each.result.outcome is outcome]

    @property
    def message(self) -> str:
        """Why the verdict is not PASS, in one line; "" if it is."""
        bad = self.of(OrderOutcome.MISMATCH)
        if bad:
            orders = f"{len(bad)} of {self.schedules} orders" if len(bad) > 1 else "one order"
            return f"in {orders} Xen did not do what the model says: {bad[0].result.why}"
        return self.trouble or ("" if self.of(OrderOutcome.WALKED) else "no order could be walked")

    @property
    def story(self) -> str:
        """The first order with a mismatch, one line per step; "" if there is none."""
        bad = self.of(OrderOutcome.MISMATCH)
        return "\n".join(_step_lines(bad[0])) if bad else ""

    @property
    def evidence(self) -> Evidence | None:
        """The evidence of the first mismatch; None if there is none."""
        bad = self.of(OrderOutcome.MISMATCH)
        return bad[0].result.evidence if bad else None

    def document(self) -> dict[str, Any]:
        """Return the scenario's part of the document."""

        def listed(outcome: OrderOutcome) -> list[dict[str, Any]]:
            return [
                {
                    "schedule": each.number,
                    "order": [step.thread for step in each.order],
                    "why": each.result.why,
                    "seconds": round(each.result.seconds, 3),
                    "file": self.files.get(each.number, ""),
                }
                for each in self.of(outcome)
            ]

        return {
            "scenario": self.scenario.name,
            "verdict": self.verdict,
            "message": self.message,
            "schedules": self.schedules,
            "walked": len(self.of(OrderOutcome.WALKED)),
            "infeasible": listed(OrderOutcome.INFEASIBLE),
            "mismatches": listed(OrderOutcome.MISMATCH),
            "seconds": round(self.seconds, 3),
            "schedules_per_second": rate_of(len(self.tried), self.seconds),
            "page": self.page,
        }


def run_document(
    live: Session, forced_by: str, parts: Sequence[dict[str, Any]], tried: int
) -> dict[str, Any]:
    """Return the document of ``interleave run --json``; ``parts`` are those of the scenarios.

    ``tried``: how many schedules were tried in the ``seconds`` of all parts.
    """
    return {
        "verdict": combine([*(part["verdict"] for part in parts), live.recorder.verdict]),
        "host": live.host.name,
        "flavour": live.plan.hypervisor.flavour.name,
        "design": live.build.design,
        "forced_by": forced_by,
        "path": str(live.recorder.directory.path),
        "schedules": sum(part["schedules"] for part in parts),
        "walked": sum(part["walked"] for part in parts),
        "infeasible": [each for part in parts for each in part["infeasible"]],
        "mismatches": [each for part in parts for each in part["mismatches"]],
        "schedules_per_second": rate_of(tried, sum(part["seconds"] for part in parts)),
        "scenarios": parts,
    }


def rate_of(count: int, seconds: float) -> float:
    """Return ``count`` per second; 0.0 when no time has passed."""
    return round(count / seconds, 2) if seconds else 0.0


def _step_lines(tried: TriedOrder) -> Iterator[str]:
    """Yield each step that was taken, with the values read after it, and at last what differed."""
    for number, step in enumerate(tried.result.steps, 1):
        values = " ".join(f"{name}={value}" for name, value in step.machine.items())
        waits = ", has to wait" if step.has_to_wait else ""
        yield (
            f"{number:3}. thread {step.thread}: {step.step}{waits}  [{values}]  {step.xen}; "
            f"at {step.where}"
        )
    yield f"  => {tried.result.why}"
