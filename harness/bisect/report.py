"""What a bisection came to: a JSON document, ``git bisect log``, and words for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness.bisect.confirm import Finding
from harness.bisect.plan import Question
from harness.bisect.repository import Repository
from harness.bisect.tally import BOOT, State


def document(
    question: Question, state: State, found: Finding, repository: Repository
) -> dict[str, Any]:
    """Return the JSON document of ``bisect --json``; docs/bisect.md has its keys."""
    commits, answer, seen = question.commits, found.answer, found.confirmation
    wanted = state.signature(commits.bad)
    return {
        "culprit": answer.culprit,
        "subject": repository.subject(answer.culprit) if answer.culprit else "",
        "confidence": round(answer.confidence, 4),
        "confirmed": seen.confirmed,
        "confirmation": {
            "fails_at_culprit": seen.fails,
            "passes_at_parents": seen.parents_pass,
            "passes_with_it_reverted": seen.reverted_passes,
            "builds_the_same_as_its_parent": seen.same_as_parent,
            "not_tested": list(seen.why),
        },
        "suspects": [
            {"commit": name, "probability": round(share, 4), "subject": repository.subject(name)}
            for name, share in answer.suspects
        ],
        "commits": len(commits.ids),
        "inert": len(commits.inert),
        "steps": sum(event.stage == "search" for event in state.tested),
        "boots": len(state.tested),
        "tries": sum(
            one.outcome != "fault" and one.test != BOOT
            for event in state.tested
            for one in event.tries
        ),
        "skipped": [{"commit": name, "why": why} for name, why in state.skipped.items()],
        "failure": str(wanted),
        "failure_rate": round(answer.rate, 3),
        "other_failures": other_failures(question, state),
        "lab_faults": sum(
            any(one.outcome == "fault" for one in event.tries) for event in state.tested
        ),
        "same_builds": _same_builds(state),
    }


def git_log(question: Question, state: State, found: Finding, repository: Repository) -> str:
    """Return the bisection as ``git bisect log`` writes it: ``git bisect replay`` takes it.

    A revision that passed and yet contains the culprit is only a comment: git has no flakes.
    """
    return "\n".join(_log_lines(question, state, found, repository)) + "\n"


def _log_lines(
    question: Question, state: State, found: Finding, repository: Repository
) -> Iterator[str]:
    commits = question.commits
    wanted = state.signature(commits.bad)
    yield "git bisect start"
    names = dict.fromkeys([commits.bad, commits.good, *(event.revision for event in state.events)])
    for name in names:
        if name not in commits.place:
            continue
        about = f"[{name}] {repository.subject(name)}"
        tally = state.tally(name, wanted)
        if name in state.skipped:
            yield from (f"# skip: {about}", f"# {state.skipped[name]}", f"git bisect skip {name}")
        elif tally.fails:
            yield from (f"# bad: {about}", f"git bisect bad {name}")
        elif tally.passes and not _contains(question, found, name):
            passed = f"# passed {tally.passes} times"
            yield from (f"# good: {about}", passed, f"git bisect good {name}")
        elif tally.passes:
            yield f"# passed {tally.passes} times, but has the culprit: {about}"
    if culprit := found.answer.culprit:
        yield f"# first bad commit: [{culprit}] {repository.subject(culprit)}"
    else:
        yield from (f"# possible first bad commit: [{one}]" for one, _ in found.answer.suspects)


def _contains(question: Question, found: Finding, name: str) -> bool:
    place, inside = question.commits.place, question.commits.contains
    return any(inside[place[name], place[one]] for one, _ in found.answer.suspects)


def other_failures(question: Question, state: State) -> list[dict[str, Any]]:
    """Return how often which revision showed another failure than the one that is looked for."""
    wanted = state.signature(question.commits.bad)
    seen = Counter(
        (event.revision, one.signature)
        for event in state.tested
        for one in event.tries
        if one.outcome == "fail" and one.signature != wanted
    )
    return [
        {"commit": commit, "failure": str(failure), "times": times}
        for (commit, failure), times in seen.items()
    ]


def _same_builds(state: State) -> list[list[str]]:
    """Return the groups of revisions whose builds are the same bytes."""
    groups: dict[str, list[str]] = {}
    for name, content in state.content.items():
        groups.setdefault(content, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def sentences(told: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for a person who reads ``told`` (a document) on a terminal."""
    if told["culprit"]:
        sure = f"{100 * told['confidence']:.1f} %"
        yield f"first bad commit ({sure} sure): {told['culprit']} {told['subject']}"
        if told["confirmed"]:
            more = " and passes with it reverted" if told["confirmation"][_REVERTED] else ""
            yield f"confirmed: fails there, passes before it{more}"
        else:
            yield "not confirmed: " + "; ".join(_doubts(told["confirmation"]))
    else:
        yield "one of these, which could not be told apart:"
        for one in told["suspects"]:
            yield f"  {100 * one['probability']:5.1f} % {one['commit'][:12]} {one['subject']}"
    yield f"the failure: {told['failure']}, in {100 * told['failure_rate']:.0f} % of the tries"
    yield (
        f"{told['commits']} commits, {told['steps']} steps, {told['boots']} boots, "
        f"{told['tries']} tries, {len(told['skipped'])} skipped"
    )
    for other in told["other_failures"]:
        yield f"another failure, not counted: {other['commit'][:12]} {other['failure']}"


_REVERTED = "passes_with_it_reverted"


def _doubts(seen: dict[str, Any]) -> Iterator[str]:
    yield from seen["not_tested"]
    if seen["builds_the_same_as_its_parent"]:
        yield "its parent builds the very same bytes"
    if seen[_REVERTED] is False:
        yield "it fails with that commit reverted as well"
