"""A run of scenarios by chance on one host, and what ``interleave run --delays`` tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.evidence import Evidence, UnforeseenEnd, words
from harness.interleave.chance import End, Rounds, ends, run_rounds
from harness.interleave.scenarios import Scenario
from harness.interleave.session import booted, rate_of, totals
from harness.results import records
from harness.run.plan import Plan
from harness.run.session import Session
from harness.verdict import HarnessError, HypervisorError, Verdict


def run_by_chance(plan: Plan, scenarios: Sequence[Scenario], count: int) -> dict[str, Any]:
    """Run ``count`` rounds of each of ``scenarios``; return the document of ``run --json``.

    What a scenario is worth stands even if the machine is lost in a later one; nothing more is
    tried on a machine that was.
    """
    parts: list[dict[str, Any]] = []
    with booted(plan) as live:
        for scenario in scenarios:
            parts.append(_scenario(live, scenario, count))
            if parts[-1]["lost"]:
                break
    return totals(live, "delays", parts, sum(part["walked"] for part in parts))


def _scenario(live: Session, scenario: Scenario, count: int) -> dict[str, Any]:
    """Run the rounds of one scenario, and write down what became of them."""
    rounds = Rounds(ends(scenario, live.build.design, live.host.arch))
    lost = ""
    evidence: Evidence | None = None

    def notice(done: int) -> None:
        live.recorder.progress.update(f"{scenario.name}: {done} of {count}")

    try:
        with live.recorder.phase(live.host.name, "load"):
            run_rounds(live, scenario, count, rounds, notice)
    except HarnessError as error:
        cause = live.cause(error)
        if not isinstance(cause, HypervisorError):
            raise cause from error
        lost, evidence = str(cause), cause.evidence
    wrong = rounds.wrong
    verdict = Verdict.FAIL if lost or wrong else Verdict.PASS if rounds.done else Verdict.MISS
    if wrong and not lost:
        evidence = _evidence(scenario, wrong[0])
    message = lost or (words.message(evidence) if evidence is not None else "")
    if verdict is Verdict.MISS:
        message = f"the lanes never began together, in {rounds.apart} rounds"
    live.recorder.add(
        records.Test(
            live.host.name,
            f"chance-{scenario.name}",
            verdict,
            round(rounds.seconds, 3),
            message,
            "\n".join(_told(rounds)),
            evidence=evidence,
        )
    )
    return {
        "scenario": scenario.name,
        "verdict": verdict,
        "message": message,
        "lost": bool(lost),
        "schedules": count,
        "walked": rounds.done,
        "infeasible": [],
        "mismatches": [{"end": str(end), "times": rounds.ends[end]} for end in wrong],
        "ends": {str(end): rounds.ends[end] for end in rounds.all},
        "apart": rounds.apart,
        "seconds": round(rounds.seconds, 3),
        "schedules_per_second": rate_of(rounds.done, rounds.seconds),
        "page": "",
    }


def _evidence(scenario: Scenario, end: End) -> UnforeseenEnd:
    return UnforeseenEnd(scenario=scenario.name, results=end.results, state=end.state_name)


def _told(rounds: Rounds) -> list[str]:
    """Return how the rounds ended, a line per end."""
    lines = [f"delay points, no debugger: {rounds.done} rounds in which the lanes met"]
    for end in rounds.all:
        model = "" if end in rounds.model else "  <- the model never ends so"
        lines.append(f"{rounds.ends[end]:6} x {end}{model}")
    return lines
