# SPDX-License-Identifier: GPL-2.0-or-later
"""The report: the score of each suite and rule, what kills, and each survivor with its diff."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import page
from harness.corpus.mutants.choose import Mutant
from harness.corpus.mutants.journal import MutantJournal
from harness.corpus.mutants.operators import OPERATORS
from harness.corpus.mutants.outcome import FATES, Outcome, Score, score, together
from harness.results.directory import write_whole

DOCUMENT, PAGE = "mutants.json", "mutants.html"
ALL = "all suites"
_WIDTH = 360  # of a bar, in pixels


@dataclass(frozen=True)
class Told:
    """Of which run the report is."""

    host: str
    version: str  # of Xen
    flavour: str
    seed: int


def write(
    told: Told,
    mutants: Sequence[Mutant],
    dropped: Mapping[int, str],
    journal: MutantJournal,
    place: Path,
) -> dict[str, Any]:
    """Write the report to ``place`` as JSON and as a page; return the JSON document.

    ``dropped``: the mutants that do not compile, with the compiler's error.
    """
    found = document(told, mutants, dropped, journal)
    write_whole(place / DOCUMENT, json.dumps(found, indent=1) + "\n")
    made = page.render(
        "mutants.html.j2",
        {"found": found, "bars": _bars(found), "fates": FATES},
        packages=("harness.corpus.mutants",),
        styles=("mutants.css",),
    )
    write_whole(place / PAGE, made)
    return found


def document(
    told: Told, mutants: Sequence[Mutant], dropped: Mapping[int, str], journal: MutantJournal
) -> dict[str, Any]:
    """Return the report's document: of all that ``journal`` knows by now."""
    outcomes = [_with_code(each, journal.same_code) for each in journal.outcomes.values()]
    by_number = {one.number: one for one in mutants}
    suites = list(dict.fromkeys(each.suite for each in outcomes))
    columns = {suite: [each for each in outcomes if each.suite == suite] for suite in suites}
    columns[ALL] = together(outcomes)
    return {
        "host": told.host,
        "xen_version": told.version,
        "flavour": told.flavour,
        "seed": told.seed,
        "generated": len(mutants),
        "suites": {suite: _score(score(column)) for suite, column in columns.items()},
        "operators": [
            {"operator": operator, "suites": _by_suite(columns, by_number, operator)}
            for operator in OPERATORS
        ],
        "kills": _kills(columns[ALL], by_number),
        "survivors": [
            _shown(by_number[each.number], outcomes)
            for each in columns[ALL]
            if each.fate not in ("killed", "same-code")
        ],
        "mutants": [_shown(one, outcomes) for one in mutants],
        "dropped": [
            {"number": number, "operator": by_number[number].operator, "error": error}
            for number, error in sorted(dropped.items())
        ],
    }


def _with_code(outcome: Outcome, same: frozenset[int] | None) -> Outcome:
    missed = outcome.fate in ("survived", "not-reached")
    return (
        replace(outcome, fate="same-code") if missed and outcome.number in (same or ()) else outcome
    )


def _by_suite(
    columns: Mapping[str, Iterable[Outcome]], mutants: Mapping[int, Mutant], operator: str
) -> dict[str, Any]:
    return {
        suite: _score(score(each for each in column if mutants[each.number].operator == operator))
        for suite, column in columns.items()
    }


def _score(found: Score) -> dict[str, Any]:
    rate = found.rate
    return {
        **found.counts,
        "score": None if rate is None else round(rate, 4),
        "interval": [round(border, 4) for border in found.interval],
    }


def _kills(outcomes: Iterable[Outcome], mutants: Mapping[int, Mutant]) -> list[dict[str, Any]]:
    """Return what kills the mutants of each rule: which evidence, and how often."""
    counts: dict[str, Counter[str]] = {operator: Counter() for operator in OPERATORS}
    for each in outcomes:
        if each.fate == "killed":
            counts[mutants[each.number].operator][each.kind or "a wrong answer"] += 1
    return [
        {"operator": operator, "by": dict(count.most_common())}
        for operator, count in counts.items()
        if count
    ]


def _shown(one: Mutant, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    return {
        "number": one.number,
        "file": one.file,
        "line": one.line,
        "function": one.function,
        "operator": one.operator,
        "diff": one.diff,
        "outcomes": [asdict(each) for each in outcomes if each.number == one.number],
    }


def _bars(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a bar for each rule and for all: its parts by fate, in pixels."""
    rows = [(row["operator"], row["suites"].get(ALL, {})) for row in found["operators"]]
    rows.append(("all", found["suites"].get(ALL, {})))
    made = []
    for name, counts in rows:
        total = sum(counts.get(fate, 0) for fate in FATES)
        at, parts = 0.0, []
        for fate in FATES:
            width = _WIDTH * counts.get(fate, 0) / total if total else 0.0
            parts.append({"fate": fate, "x": round(at, 1), "width": round(width, 1)})
            at += width
        made.append({"name": name, "total": total, "parts": parts, "counts": counts})
    return made
