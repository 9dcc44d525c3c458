# SPDX-License-Identifier: GPL-2.0-or-later
"""All rules, applied to one piece of a history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from harness.history.check.answers import (
    Answers,
    Judged,
    find_answers,
    impossible_results,
    judge_answers,
    virqs_bound_twice,
)
from harness.history.check.changes import find_timeline
from harness.history.check.deliveries import Deliveries, Events, find_deliveries, find_events
from harness.history.check.events import (
    delivered_before_any_send,
    delivered_on_closed_port,
    lost_events,
    match_deliveries,
    outnumbered_deliveries,
)
from harness.history.check.notify_vcpu import wrong_vcpus
from harness.history.check.partition import Linearized, linearize_parts
from harness.history.check.piece import NO_PAST, Past, Piece, prepare
from harness.history.check.ports import Ports
from harness.history.check.scope import Scope
from harness.history.check.states import (
    ANYTHING,
    INTERDOMAIN,
    OPEN,
    UNBOUND,
    domid_of,
    encode,
    stat_of,
)
from harness.history.check.timeline import Timeline
from harness.history.format.columns import Columns, Int64

# What each rule is called in results; witnesses say it at length.
RESULT = "result"  # an answer that no state of any port allows
ALLOCATION = "allocation"  # a port given away twice
VIRQ = "virq"  # a VIRQ bound to two ports
BIND = "bind"  # a bind that succeeded on a port not unbound for the caller
ANSWER = "answer"  # an answer that no state the port had during the call allows
NOTIFY = "notify-vcpu"  # STATUS told a vCPU that the port was not bound to
ORDER = "order"  # answers that no order of the operations explains
LOST = "lost-event"  # a send that nobody received
INVENTED = "invented-event"  # a delivery that nobody sent
MASKED = "masked-delivery"  # a delivery before the port was enabled again
STRAY = "closed-delivery"  # a delivery on a port that was not open


@dataclass
class Findings:
    """What the rules found: (property, row of the culprit), and what they could not settle."""

    violations: set[tuple[str, int]] = field(default_factory=set)
    undecided: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))  # rows

    def add(self, property_: str, rows: Int64) -> None:
        """Note ``rows`` as culprits against ``property_``."""
        self.violations.update((property_, row) for row in rows.tolist())


@dataclass(frozen=True)
class JudgedPiece:
    """One piece of a history with all that was worked out about it."""

    piece: Piece
    timeline: Timeline
    events: Events
    findings: Findings


def judge(
    columns: Columns, scope: Scope, *, final: bool = True, past: Past = NO_PAST
) -> JudgedPiece:
    """Apply every rule to ``columns`` (not widened); ``final``: the history ends with them."""
    findings = Findings()
    piece = prepare(columns, scope, past)
    with _background(len(columns)) as in_background:
        without_timeline = in_background(lambda: _judge_without_timeline(piece))
        timeline = _judge_binds(piece, find_timeline(piece), findings)
        answers, judged, timeline = _judge_answers(piece, timeline, findings)
        deliveries, more = without_timeline()
        findings.violations |= more.violations
        search = in_background(_search(piece, timeline, answers, judged, findings))
        events = find_events(piece, timeline, deliveries)
        _judge_events(piece, timeline, events, findings, final=final)
        linearized = search()
    findings.add(ORDER, piece.columns.row[linearized.impossible])
    findings.undecided = piece.columns.row[linearized.undecided]
    return JudgedPiece(piece, timeline, events, findings)


def _judge_without_timeline(piece: Piece) -> tuple[Deliveries, Findings]:
    """Apply the rules that need no bounds of any change."""
    row, lifetimes = piece.columns.row, piece.lifetimes
    findings = Findings()
    findings.add(ALLOCATION, row[lifetimes.alloc[lifetimes.not_free]])
    findings.add(RESULT, row[impossible_results(piece.columns, piece.scope.rules)])
    findings.add(VIRQ, row[virqs_bound_twice(piece)])
    findings.add(NOTIFY, row[wrong_vcpus(piece)])
    deliveries = find_deliveries(piece)
    findings.add(STRAY, row[delivered_on_closed_port(piece, deliveries)])
    return deliveries, findings


def _judge_binds(piece: Piece, timeline: Timeline, findings: Findings) -> Timeline:
    wrong = _wrong_binds(piece.ports, timeline)
    findings.add(BIND, piece.columns.row[wrong])
    timeline = timeline.disclaimed(timeline.channel[np.isin(timeline.operation, wrong)])
    return _across_ports(piece, timeline, findings)


def _wrong_binds(ports: Ports, timeline: Timeline) -> Int64:
    """Return the binds (operations) that succeeded on a port not unbound for their caller."""
    bound = np.flatnonzero((timeline.operation >= 0) & (stat_of(timeline.after) == INTERDOMAIN))
    client = timeline.lifetimes.alloc[timeline.lifetime[bound]] == timeline.operation[bound]
    bound = bound[~client]
    before = timeline.state(timeline.channel[bound], bound)
    caller = ports.caller[timeline.operation[bound]]
    open_ = stat_of(before) == OPEN  # unbound, perhaps, but for one domain only
    right = np.where(open_, domid_of(before) == caller, before == encode(UNBOUND, caller, 0))
    return np.asarray(timeline.operation[bound[(before != ANYTHING) & ~right]], np.int64)


def _across_ports(piece: Piece, timeline: Timeline, findings: Findings) -> Timeline:
    """Return ``timeline`` with narrower bounds; report changes that cannot have happened."""
    timeline = _without_crossed(piece, timeline, findings)
    return _without_crossed(piece, timeline.across_ports(piece.columns), findings)


def _without_crossed(piece: Piece, timeline: Timeline, findings: Findings) -> Timeline:
    """Report changes whose bounds cross, and claim nothing more about their ports."""
    crossed = timeline.crossed()
    operation = timeline.operation[crossed]
    alloc = timeline.lifetimes.alloc[timeline.lifetime[crossed]]
    findings.add(ORDER, piece.columns.row[np.where(operation >= 0, operation, alloc)])
    return timeline.disclaimed(timeline.channel[crossed])


def _judge_answers(
    piece: Piece, timeline: Timeline, findings: Findings
) -> tuple[Answers, Judged, Timeline]:
    answers = find_answers(piece, timeline)
    judged, timeline = judge_answers(answers, timeline)
    findings.add(ANSWER, piece.columns.row[judged.wrong])
    timeline = timeline.disclaimed(answers.channel[np.isin(answers.operation, judged.wrong)])
    return answers, judged, _across_ports(piece, timeline, findings)


def _search(
    piece: Piece, timeline: Timeline, answers: Answers, judged: Judged, findings: Findings
) -> Callable[[], Linearized]:
    """Return the search for an order that explains the answers that are still open."""
    if findings.violations:
        undecided = np.union1d(judged.ambiguous, judged.unknown)
        left = Linearized(np.zeros(0, np.int64), undecided)
        return lambda: left
    lifetimes = piece.lifetimes
    unknown = np.union1d(judged.unknown, lifetimes.alloc[lifetimes.doubtful])
    return lambda: linearize_parts(piece, timeline, answers, judged.ambiguous, unknown)


def _judge_events(
    piece: Piece, timeline: Timeline, events: Events, findings: Findings, *, final: bool
) -> None:
    row = piece.columns.row
    without_cause, while_masked = match_deliveries(piece, events)
    findings.add(INVENTED, row[without_cause])
    findings.add(INVENTED, row[outnumbered_deliveries(piece, events)])
    findings.add(INVENTED, row[delivered_before_any_send(piece)])
    findings.add(MASKED, row[while_masked])
    if final:
        findings.add(LOST, row[lost_events(piece, timeline, events)])


_WORTH_A_THREAD = 50_000  # operations: below, a search takes no time
_T = TypeVar("_T")


class _Background:
    """Runs work in a second thread if there is one, else when its result is asked for."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def __call__(self, work: Callable[[], _T]) -> Callable[[], _T]:
        """Start ``work``; call what is returned to wait for its result."""
        return self._pool.submit(work).result if self._pool else work


@contextmanager
def _background(operations: int) -> Iterator[_Background]:
    """Let work go on beside the block: numpy among big arrays leaves room for a second CPU."""
    if operations < _WORTH_A_THREAD:
        yield _Background(None)
        return
    with ThreadPoolExecutor(1, "rules") as pool:
        yield _Background(pool)
