# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a bisection: as a JSON document, as ``git bisect log``, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness.bisect.confirm import Finding
from harness.bisect.observations import BOOT, Observations
from harness.bisect.repository import Repository
from harness.bisect.search import Question


def document(
    question: Question, observations: Observations, found: Finding, repository: Repository
) -> dict[str, Any]:
    """Return the JSON document of ``bisect --json``; docs/bisect.md has its keys."""
    commits, answer, confirmation = question.commits, found.answer, found.confirmation
    target = observations.target(commits.bad)
    return {
        "culprit": answer.culprit,
        "subject": repository.subject(answer.culprit) if answer.culprit else "",
        "confidence": round(answer.confidence, 4),
        "confirmed": confirmation.confirmed,
        "confirmation": {
            "fails_at_culprit": confirmation.fails,
            "passes_at_parents": confirmation.parents_pass,
            "passes_with_it_reverted": confirmation.reverted_passes,
            "builds_the_same_as_its_parent": confirmation.same_as_parent,
            "not_tested": list(confirmation.not_tested),
        },
        "suspects": [
            {"commit": name, "probability": round(share, 4), "subject": repository.subject(name)}
            for name, share in answer.suspects
        ],
        "commits": len(commits.ids),
        "inert": len(commits.inert),
        "steps": sum(event.stage == "search" for event in observations.tested),
        "boots": len(observations.tested),
        "tries": sum(
            one.outcome != "fault" and one.test != BOOT
            for event in observations.tested
            for one in event.tries
        ),
        "skipped": [{"commit": name, "why": why} for name, why in observations.skipped.items()],
        "failure": str(target),
        "failure_rate": round(answer.rate, 3),
        "other_failures": other_failures(question, observations),
        "lab_faults": sum(
            any(one.outcome == "fault" for one in event.tries) for event in observations.tested
        ),
        "same_builds": _same_builds(observations),
    }


def git_log(
    question: Question, observations: Observations, found: Finding, repository: Repository
) -> str:
    """Return the bisection in the format of ``git bisect log``, for ``git bisect replay``.

    A revision that passed although it contains the culprit is only a comment: git knows no
    flaky failures.
    """
    return "\n".join(_log_lines(question, observations, found, repository)) + "\n"


def _log_lines(
    question: Question, observations: Observations, found: Finding, repository: Repository
) -> Iterator[str]:
    commits = question.commits
    target = observations.target(commits.bad)
    yield "git bisect start"
    names = dict.fromkeys(
        [commits.bad, commits.good, *(event.revision for event in observations.events)]
    )
    for name in names:
        if name not in commits.row_of:
            continue
        about = f"[{name}] {repository.subject(name)}"
        counts = observations.counts(name, target)
        if name in observations.skipped:
            yield from (
                f"# skip: {about}",
                f"# {observations.skipped[name]}",
                f"git bisect skip {name}",
            )
        elif counts.fails:
            yield from (f"# bad: {about}", f"git bisect bad {name}")
        elif counts.passes and not _contains(question, found, name):
            passed = f"# passed {counts.passes} times"
            yield from (f"# good: {about}", passed, f"git bisect good {name}")
        elif counts.passes:
            yield f"# passed {counts.passes} times, but contains the culprit: {about}"
    if culprit := found.answer.culprit:
        yield f"# first bad commit: [{culprit}] {repository.subject(culprit)}"
    else:
        yield from (f"# possible first bad commit: [{one}]" for one, _ in found.answer.suspects)


def _contains(question: Question, found: Finding, name: str) -> bool:
    place, inside = question.commits.row_of, question.commits.contains
    return any(inside[place[name], place[one]] for one, _ in found.answer.suspects)


def other_failures(question: Question, observations: Observations) -> list[dict[str, Any]]:
    """Return the failures that are not the target: which revision showed which, how often."""
    target = observations.target(question.commits.bad)
    times = Counter(
        (event.revision, one.signature)
        for event in observations.tested
        for one in event.tries
        if one.outcome == "fail" and one.signature != target
    )
    return [
        {"commit": commit, "failure": str(failure), "times": count}
        for (commit, failure), count in times.items()
    ]


def _same_builds(observations: Observations) -> list[list[str]]:
    """Return the groups of revisions whose builds are the same bytes."""
    groups: dict[str, list[str]] = {}
    for name, content in observations.digests.items():
        groups.setdefault(content, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for the terminal; ``report`` is what ``document`` returned."""
    if report["culprit"]:
        sure = f"{100 * report['confidence']:.1f} %"
        yield f"first bad commit ({sure} sure): {report['culprit']} {report['subject']}"
        if report["confirmed"]:
            more = " and passes with it reverted" if report["confirmation"][_REVERTED] else ""
            yield f"confirmed: fails there, passes before it{more}"
        else:
            yield "not confirmed: " + "; ".join(_doubts(report["confirmation"]))
    else:
        yield "the first bad commit is one of these; no test could tell which:"
        for one in report["suspects"]:
            yield f"  {100 * one['probability']:5.1f} % {one['commit'][:12]} {one['subject']}"
    yield f"the failure: {report['failure']}, in {100 * report['failure_rate']:.0f} % of the tries"
    yield (
        f"{report['commits']} commits, {report['steps']} steps, {report['boots']} boots, "
        f"{report['tries']} tries, {len(report['skipped'])} skipped"
    )
    for other in report["other_failures"]:
        yield f"another failure, not counted: {other['commit'][:12]} {other['failure']}"


_REVERTED = "passes_with_it_reverted"


def _doubts(confirmation: dict[str, Any]) -> Iterator[str]:
    yield from confirmation["not_tested"]
    if confirmation["builds_the_same_as_its_parent"]:
        yield "its parent builds the same bytes"
    if confirmation[_REVERTED] is False:
        yield "the bad end still fails with that commit reverted"
