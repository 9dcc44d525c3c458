# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a bisection: as a JSON document, as ``git bisect log``, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness.bisect.confirm import Confirmation, Finding
from harness.bisect.observations import BOOT, Observations
from harness.bisect.repository import Repository
from harness.bisect.search import Question

# By ``mends``: what culprit, parents, and newer end with the culprit reverted should do.
_CONFIRMED = {
    False: ("fails_at_culprit", "passes_at_parents", "passes_with_it_reverted"),
    True: ("passes_at_culprit", "fails_at_parents", "fails_with_it_reverted"),
}


def terms(mends: bool) -> tuple[str, str]:
    """Return git's words for a revision before the commit that is searched, and for one after."""
    return ("old", "new") if mends else ("good", "bad")


def document(
    question: Question, observations: Observations, found: Finding, repository: Repository
) -> dict[str, Any]:
    """Return the JSON document of ``bisect --json``; docs/bisect.md has its keys."""
    commits, answer, confirmation = question.commits, found.answer, found.confirmation
    target = observations.target(commits.bad)
    return {
        "terms": list(terms(commits.mends)),
        "culprit": answer.culprit,
        "subject": repository.subject(answer.culprit) if answer.culprit else "",
        "confidence": round(answer.confidence, 4),
        "confirmed": confirmation.confirmed,
        "confirmation": {
            name: value
            for name, value in zip(_CONFIRMED[commits.mends], _seen(confirmation), strict=True)
        }
        | {
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
            one.outcome != "fault" and (one.test == BOOT) is observations.boot
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

    A revision that passed although it should fail, by the answer, is only a comment: git knows no
    flaky failures.
    """
    return "\n".join(_log_lines(question, observations, found, repository)) + "\n"


def _log_lines(
    question: Question, observations: Observations, found: Finding, repository: Repository
) -> Iterator[str]:
    commits = question.commits
    target = observations.target(commits.bad)
    before, after = terms(commits.mends)
    fails, passes = (before, after) if commits.mends else (after, before)
    yield "git bisect start"
    names = dict.fromkeys(
        [commits.newer, commits.older, *(event.revision for event in observations.events)]
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
            yield from (f"# {fails}: {about}", f"git bisect {fails} {name}")
        elif counts.passes and not _should_fail(question, found, name):
            passed = f"# passed {counts.passes} times"
            yield from (f"# {passes}: {about}", passed, f"git bisect {passes} {name}")
        elif counts.passes:
            why = "does not contain" if commits.mends else "contains"
            yield f"# passed {counts.passes} times, but {why} the culprit: {about}"
    if culprit := found.answer.culprit:
        yield f"# first {after} commit: [{culprit}] {repository.subject(culprit)}"
    else:
        yield from (f"# possible first {after} commit: [{one}]" for one, _ in found.answer.suspects)


def _should_fail(question: Question, found: Finding, name: str) -> bool:
    place, is_bad = question.commits.row_of, question.commits.is_bad
    return any(is_bad[place[name], place[one]] for one, _ in found.answer.suspects)


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
    before, after = report["terms"]
    mends = (before, after) == terms(True)
    if report["culprit"]:
        sure = f"{100 * report['confidence']:.1f} %"
        yield f"first {after} commit ({sure} sure): {report['culprit']} {report['subject']}"
        shows, lacks = ("passes", "fails") if mends else ("fails", "passes")
        reverted = report["confirmation"][_CONFIRMED[mends][-1]]
        if report["confirmed"]:
            more = f" and {lacks} with it reverted" if reverted else ""
            yield f"confirmed: {shows} there, {lacks} before it{more}"
        else:
            doubts = _doubts(report["confirmation"], reverted, f"{after} end still {shows}")
            yield "not confirmed: " + "; ".join(doubts)
    else:
        yield f"the first {after} commit is one of these; no test could tell which:"
        for one in report["suspects"]:
            yield f"  {100 * one['probability']:5.1f} % {one['commit'][:12]} {one['subject']}"
    yield f"the failure: {report['failure']}, in {100 * report['failure_rate']:.0f} % of the tries"
    yield (
        f"{report['commits']} commits, {report['steps']} steps, {report['boots']} boots, "
        f"{report['tries']} tries, {len(report['skipped'])} skipped"
    )
    for other in report["other_failures"]:
        yield f"another failure, not counted: {other['commit'][:12]} {other['failure']}"


def _seen(confirmation: Confirmation) -> tuple[bool | None, ...]:
    return confirmation.culprit, confirmation.parents, confirmation.reverted


def _doubts(confirmation: dict[str, Any], reverted: bool | None, still: str) -> Iterator[str]:
    yield from confirmation["not_tested"]
    if confirmation["builds_the_same_as_its_parent"]:
        yield "its parent builds the same bytes"
    if reverted is False:
        yield f"the {still} with that commit reverted"
