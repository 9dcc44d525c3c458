"""A page per scenario: the lanes, the turns, and the variables, model and machine side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from harness.interleave.loop import Tried
from harness.interleave.scenarios import Scenario
from harness.interleave.walk import Outcome
from harness.results.directory import write_whole

_OPEN = 3  # schedules shown unfolded


@dataclass(frozen=True)
class About:
    """What was run."""

    scenario: Scenario
    host: str
    arch: str
    accel: str
    flavour: str
    design: str
    xen: str
    command: str  # that does the same again
    schedules: int  # of the scenario, tried or not
    seconds: float


def write_page(path: Path, about: About, tried: Sequence[Tried], files: dict[int, str]) -> None:
    """Write the page to ``path``; ``files`` has the replay file of some of the schedules."""
    write_whole(path, render(about, tried, files))


def render(about: About, tried: Sequence[Tried], files: dict[int, str]) -> str:
    """Return the page as one HTML document that loads nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.interleave"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    outcomes = [each.walked.outcome for each in tried]
    ordered = sorted(tried, key=lambda each: (_RANK[each.walked.outcome], each.number))
    return environment.get_template("scenario.html.j2").render(
        about=about,
        lanes=[_lane(about.scenario, number) for number in range(len(about.scenario.lanes))],
        tried=ordered,
        counts={outcome: outcomes.count(outcome) for outcome in Outcome},
        files=files,
        unfolded={each.number for each in ordered[:_OPEN]},
    )


_RANK = {Outcome.MISMATCH: 0, Outcome.INFEASIBLE: 1, Outcome.WALKED: 2}


def _lane(scenario: Scenario, number: int) -> str:
    call = scenario.lanes[number].call
    ports = " ".join(name for _, name in call.ports if name)
    return f"CPU{number}: {call.verb} {ports}".rstrip()
