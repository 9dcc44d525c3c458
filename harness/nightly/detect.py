# SPDX-License-Identifier: GPL-2.0-or-later
"""Detect the findings of a night in the store's rows, and write them into the store."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness import bounded
from harness.evidence import codec
from harness.evidence.identity import identity
from harness.nightly.changepoint import WINDOW
from harness.nightly.judge import (
    Judgement,
    MetricPoint,
    SymptomCount,
    TestOutcome,
    judge_metric,
    judge_symptom,
    judge_test,
)
from harness.nightly.schema import CellKey, Night
from harness.nightly.store import Store

_T = TypeVar("_T")

TEST_WINDOW = 30  # only the outcomes of the last nights count, this many


@dataclass(frozen=True)
class Finding:
    """A judgement, and the test, metric or symptom of a cell that it is about."""

    host: str
    xen: str
    suite: str
    name: str  # of the test or the metric; of a symptom its console and kind
    judgement: Judgement
    is_new: bool  # the night before did not have this finding

    @property
    def key(self) -> CellKey:
        """The key of the cell."""
        return self.host, self.xen, self.suite


def group_findings(found: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Yield ordered findings in groups, each of one kind, one cell, and since one night."""

    def about(finding: Finding) -> tuple[object, ...]:
        return finding.judgement.kind, finding.is_new, finding.key, finding.judgement.since

    for _, group in itertools.groupby(found, key=about):
        yield list(group)


def detect_findings(store: Store, night: Night) -> list[Finding]:
    """Detect the findings of ``night``, write them into the store, and return them."""
    known = _known(store, night)
    found: list[Finding] = []
    for (key, name), tries in _tries(store, night):
        if result := judge_test(tries, night.id):
            found.append(_finding(key, name, result, known))
    for (key, name), points in _points(store, night):
        if result := judge_metric(name, points):
            found.append(_finding(key, name, result, known))
    for (key, name), counts in _symptoms(store, night):
        if result := judge_symptom(counts):
            found.append(_finding(key, name, result, known))
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM finding WHERE night = ?", (night.id,))
        cursor.executemany(
            "INSERT INTO finding VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [_row(night, finding) for finding in found],
        )
    return read_findings(store, night)


def read_findings(store: Store, night: Night) -> list[Finding]:
    """Return the findings of ``night`` from the store: new ones first, the worst kinds first."""
    rows = store.db.execute(
        "SELECT host, xen, suite, name, kind, since, text, build_before, build_after, low, value,"
        " high, is_new FROM finding WHERE night = ? ORDER BY is_new DESC,"
        " instr('failing slower flaky symptom drift fixed', kind), host, xen, suite, since, name",
        (night.id,),
    )
    return [
        Finding(host, xen, suite, name, Judgement(*found), bool(is_new))
        for host, xen, suite, name, *found, is_new in rows
    ]


def _finding(key: CellKey, name: str, judgement: Judgement, known: set[tuple[str, ...]]) -> Finding:
    host, xen, suite = key
    is_new = judgement.another or (*key, name, judgement.kind) not in known
    return Finding(host, xen, suite, name, judgement, is_new)


def _row(night: Night, finding: Finding) -> tuple[object, ...]:
    judgement = finding.judgement
    return (
        night.id,
        *finding.key,
        finding.name,
        judgement.kind,
        finding.is_new,
        judgement.since,
        judgement.text,
        judgement.build_before,
        judgement.build_after,
        judgement.low,
        judgement.value,
        judgement.high,
    )


def _known(store: Store, night: Night) -> set[tuple[str, ...]]:
    """Return the findings of the night before: cell, name and kind."""
    before = [n for n in store.nights(2, until=night.id) if n.id != night.id]
    if not before:
        return set()
    rows = store.db.execute(
        "SELECT host, xen, suite, name, kind FROM finding WHERE night = ?", (before[-1].id,)
    )
    return set(rows)


_Series = tuple[CellKey, str]


def _tries(store: Store, night: Night) -> Iterator[tuple[_Series, list[TestOutcome]]]:
    """Yield the outcomes of each test of the cells of ``night`` that failed in TEST_WINDOW."""
    rows = store.db.execute(
        "WITH mine AS (SELECT host, xen, suite FROM cell WHERE night = :night),"
        " recent AS (SELECT cell.* FROM cell JOIN mine USING (host, xen, suite)"
        "   WHERE night BETWEEN :first AND :night AND state = 'done'),"
        " bad AS (SELECT DISTINCT host, xen, suite, test.name FROM recent"
        "   JOIN test ON test.cell = recent.id WHERE test.verdict = 'FAIL')"
        " SELECT host, xen, suite, text, night, build, test.verdict = 'FAIL', test.message,"
        " evidence"
        " FROM recent JOIN test ON test.cell = recent.id"
        " JOIN bad USING (host, xen, suite, name)"
        " JOIN name ON name.id = test.name"
        " WHERE test.verdict IN ('PASS', 'FAIL')"
        " ORDER BY host, xen, suite, text, night, number",
        {"night": night.id, "first": _first(store, night, TEST_WINDOW)},
    )
    yield from _grouped(rows, _try)


def _try(row: tuple[Any, ...]) -> TestOutcome:
    night, build, failed, message, stored = row
    try:
        evidence = codec.from_json(bounded.json_value(stored)) if failed and stored else None
    except ValueError as error:
        what = f"a test of night {night} has damaged evidence: {str(error).splitlines()[0]}"
        raise sqlite3.DataError(what) from None
    failure = None if evidence is None else identity(evidence)
    return TestOutcome(night, build, bool(failed), message, failure)


def _points(store: Store, night: Night) -> Iterator[tuple[_Series, list[MetricPoint]]]:
    """Yield the values of each metric of the cells of ``night``, also of cells not run tonight."""
    rows = store.db.execute(
        "WITH mine AS (SELECT host, xen, suite FROM cell WHERE night = :night)"
        " SELECT host, xen, suite, text, night, build, value FROM mine"
        " JOIN cell USING (host, xen, suite)"
        " JOIN metric ON metric.cell = cell.id JOIN name ON name.id = metric.name"
        " WHERE night BETWEEN :first AND :night ORDER BY host, xen, suite, text, night",
        {"night": night.id, "first": _first(store, night, WINDOW)},
    )
    yield from _grouped(rows, lambda row: MetricPoint(*row))


def _symptoms(store: Store, night: Night) -> Iterator[tuple[_Series, list[SymptomCount]]]:
    """Yield how often each symptom of the cells that ran tonight was seen, night by night."""
    rows = store.db.execute(
        "WITH mine AS (SELECT id, host, xen, suite FROM cell"
        "   WHERE night = :night AND state = 'done'),"
        " named AS (SELECT host, xen, suite, stream, kind FROM mine"
        "   JOIN symptom ON symptom.cell = mine.id)"
        " SELECT host, xen, suite, named.stream || ' console: ' || named.kind, night, build,"
        " coalesce(count, 0), coalesce(symptom.text, '') FROM named"
        " JOIN cell USING (host, xen, suite)"
        " LEFT JOIN symptom ON symptom.cell = cell.id"
        "   AND symptom.stream = named.stream AND symptom.kind = named.kind"
        " WHERE night BETWEEN :first AND :night AND state = 'done'"
        " ORDER BY host, xen, suite, named.stream, named.kind, night",
        {"night": night.id, "first": _first(store, night, TEST_WINDOW)},
    )
    yield from _grouped(rows, lambda row: SymptomCount(*row))


def _first(store: Store, night: Night, window: int) -> str:
    return store.nights(window, until=night.id)[0].id


def _grouped(
    rows: Iterable[tuple[Any, ...]], make: Callable[[tuple[Any, ...]], _T]
) -> Iterator[tuple[_Series, list[_T]]]:
    """Yield (series, values); the ordered rows are host, Xen, suite, name, and the columns of
    which ``make`` makes a value."""
    for (*key, name), group in itertools.groupby(rows, key=lambda row: row[:4]):
        host, xen, suite = key
        yield ((host, xen, suite), name), [make(row[4:]) for row in group]
