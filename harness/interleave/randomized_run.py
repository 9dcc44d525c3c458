# SPDX-License-Identifier: GPL-2.0-or-later
"""``interleave run --delays``: randomized rounds of scenarios on one host, and their document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.evidence import Evidence, UnforeseenEnd, words
from harness.interleave.booted import booted
from harness.interleave.document import rate_of, run_document
from harness.interleave.randomized import RoundEnd, Rounds, allowed_ends, run_rounds
from harness.interleave.scenarios import Scenario
from harness.results import records
from harness.run.plan import Plan
from harness.run.session import Session
from harness.verdict import HarnessError, HypervisorError, Verdict


def run_randomized(plan: Plan, scenarios: Sequence[Scenario], count: int) -> dict[str, Any]:
    """Run ``count`` rounds of each of ``scenarios``; return the document of ``run --json``.

    When the machine is lost, the scenarios before keep their verdicts, and the scenarios after are
    not run.
    """
    parts: list[dict[str, Any]] = []
    with booted(plan) as live:
        for scenario in scenarios:
            parts.append(_scenario(live, scenario, count))
            if parts[-1]["lost"]:
                break
    return run_document(live, "delays", parts, sum(part["walked"] for part in parts))


def _scenario(live: Session, scenario: Scenario, count: int) -> dict[str, Any]:
    """Run the rounds of one scenario, add its test to the journal, return its part of the
    document."""
    rounds = Rounds(allowed_ends(scenario, live.build.design, live.host.arch))
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
    forbidden = rounds.forbidden
    verdict = Verdict.FAIL if lost or forbidden else Verdict.PASS if rounds.done else Verdict.MISS
    if forbidden and not lost:
        evidence = _evidence(scenario, forbidden[0])
    message = lost or (words.message(evidence) if evidence is not None else "")
    if verdict is Verdict.MISS:
        message = f"in none of {rounds.not_together} rounds did all operations start together"
    live.recorder.add(
        records.Test(
            live.host.name,
            f"chance-{scenario.name}",
            verdict,
            round(rounds.seconds, 3),
            message,
            "\n".join(_lines(rounds)),
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
        "mismatches": [{"end": str(end), "times": rounds.counts[end]} for end in forbidden],
        "ends": {str(end): rounds.counts[end] for end in rounds.ends},
        "apart": rounds.not_together,
        "seconds": round(rounds.seconds, 3),
        "schedules_per_second": rate_of(rounds.done, rounds.seconds),
        "page": "",
    }


def _evidence(scenario: Scenario, end: RoundEnd) -> UnforeseenEnd:
    return UnforeseenEnd(scenario=scenario.name, results=end.results, state=end.state_name)


def _lines(rounds: Rounds) -> list[str]:
    """Return how often each end occurred, one line per end."""
    lines = [f"random delays, no debugger: operations started together in {rounds.done} rounds"]
    for end in rounds.ends:
        forbidden = "" if end in rounds.allowed else "  <- the model does not allow this end"
        lines.append(f"{rounds.counts[end]:6} x {end}{forbidden}")
    return lines
