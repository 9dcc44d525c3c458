# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of a scenario: the steps of each order, with the values in the model and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import page
from harness.interleave.force_orders import TriedOrder
from harness.interleave.order_runner import OrderOutcome
from harness.interleave.scenarios import Scenario
from harness.results.directory import write_whole

_OPEN = 3  # schedules whose steps are shown at once; those of the others after a click
_RANK = {OrderOutcome.MISMATCH: 0, OrderOutcome.INFEASIBLE: 1, OrderOutcome.WALKED: 2}


@dataclass(frozen=True)
class PageHeader:
    """What was run, for the head of the page."""

    scenario: Scenario
    host: str
    arch: str
    accel: str
    flavour: str
    design: str
    xen: str
    command: str  # that runs the same again
    schedules: int  # orders of the scenario, tried or not
    seconds: float


def write_page(
    path: Path, header: PageHeader, tried: Sequence[TriedOrder], files: dict[int, str]
) -> None:
    """Write the page to ``path``; ``files``: replay files, by the number of the schedule."""
    write_whole(path, render(header, tried, files))


def render(header: PageHeader, tried: Sequence[TriedOrder], files: dict[int, str]) -> str:
    """Return the page as one HTML document that needs no other file."""
    outcomes = [each.result.outcome for each in tried]
    ordered = sorted(tried, key=lambda each: (_RANK[each.result.outcome], each.number))
    values = {
        "header": header,
        "threads": _thread_names(header.scenario),
        "tried": ordered,
        "counts": {outcome: outcomes.count(outcome) for outcome in OrderOutcome},
        "files": files,
        "unfolded": {each.number for each in ordered[:_OPEN]},
    }
    return page.render(
        "scenario.html.j2", values, packages=("harness.interleave",), styles=("scenario.css",)
    )


def _thread_names(scenario: Scenario) -> list[str]:
    names = []
    for number, thread in enumerate(scenario.threads):
        ports = " ".join(name for _, name in thread.call.ports if name)
        where = f"{thread.call.domain} vCPU{scenario.vcpu(number)}"
        names.append(f"{where}: {thread.call.verb} {ports}".rstrip())
    if scenario.interrupt is not None:
        names.append("an interrupt on the first CPU")
    return names
