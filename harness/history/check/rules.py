"""All rules of the oracle, applied to one piece of a history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from harness.history.check import answers, events, notify
from harness.history.check.events import Flow
from harness.history.check.lives import Lives
from harness.history.check.scope import NO_PAST, Past, Ports, Scope, ports, widen
from harness.history.check.timeline import Timeline, timeline, wrong_binds
from harness.history.check.windows import Searched, look_into
from harness.history.format.columns import Columns, Int64

_WORTH_A_THREAD = 50_000  # operations: below, a search takes no time

# What each rule is called in results; stories say it at length.
RESULT = "result"  # an answer that no state of any port allows
ALLOCATION = "allocation"  # a port given away twice
VIRQ = "virq"  # a VIRQ bound to two ports
BIND = "bind"  # a bind that succeeded on a port not unbound for the caller
ANSWER = "answer"  # an answer that no state the port had during the call allows
NOTIFY = "notify-vcpu"  # STATUS told a vCPU that the port was not bound to
ORDER = "order"  # answers that no order of the operations explains
LOST = "lost-event"
INVENTED = "invented-event"
MASKED = "masked-delivery"
STRAY = "closed-delivery"


@dataclass
class Findings:
    """What the rules found: (property, row of the culprit), and what they could not settle."""

    violations: set[tuple[str, int]] = field(default_factory=set)
    undecided: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))  # rows

    def add(self, property_: str, rows: Int64) -> None:
        """Note ``rows`` as culprits against ``property_``."""
        self.violations.update((property_, row) for row in rows.tolist())


@dataclass(frozen=True)
class Piece:
    """One piece of a history, worked out: what the next piece needs of it."""

    columns: Columns  # widened
    ports: Ports
    timeline: Timeline
    flow: Flow
    found: Findings


def judge(columns: Columns, about: Scope, *, final: bool = True, past: Past = NO_PAST) -> Piece:
    """Apply every rule to ``columns`` (not widened); ``final``: the history ends with them."""
    found = Findings()
    columns = widen(columns, about)
    whose = ports(columns, about)
    made = timeline(columns, whose, about, past)
    with _beside(len(columns)) as beside:
        early = beside(lambda: _early(columns, whose, made.lives, past))
        found.add(ALLOCATION, columns.row[made.lives.born[made.lives.twice]])
        _orders(columns, whose, made, found)
        these, judged = _answers(columns, whose, about, made, found)
        mail, wrong = early()
        found.violations |= wrong.violations
        search = beside(_search(columns, whose, about, made, these, judged, found))
        flow = events.flow(columns, whose, about, made, past, mail)
        _events(columns, whose, about, made, found, flow, final, past)
        searched = search()
    found.add(ORDER, columns.row[searched.impossible])
    found.undecided = columns.row[searched.undecided]
    return Piece(columns, whose, made, flow, found)


def _orders(columns: Columns, whose: Ports, made: Timeline, found: Findings) -> None:
    wrong = wrong_binds(columns, whose, made)
    found.add(BIND, columns.row[wrong])
    made.give_up(made.group[np.isin(made.operation, wrong)])
    _crossed(columns, made, found)
    made.spread(columns)
    _crossed(columns, made, found)


def _crossed(columns: Columns, made: Timeline, found: Findings) -> None:
    """Report changes whose bounds cross, and claim nothing more about their ports."""
    bad = made.impossible()
    if not len(bad):
        return
    operation = made.operation[bad]
    operation = np.where(operation >= 0, operation, made.lives.born[made.life[bad]])
    found.add(ORDER, columns.row[operation])
    made.give_up(made.group[bad])


_T = TypeVar("_T")


class _Beside:
    """Begins what it is called with, and returns what to call for the result."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def __call__(self, work: Callable[[], _T]) -> Callable[[], _T]:
        return self._pool.submit(work).result if self._pool else work


@contextmanager
def _beside(operations: int) -> Iterator[_Beside]:
    """Let work go on beside the block: numpy among big arrays leaves room for a second CPU."""
    if operations < _WORTH_A_THREAD:
        yield _Beside(None)
        return
    with ThreadPoolExecutor(1, "beside") as pool:
        yield _Beside(pool)


def _early(
    columns: Columns, whose: Ports, lives: Lives, past: Past
) -> tuple[events.Mail, Findings]:
    """Apply the rules that need no bounds of any change."""
    found = Findings()
    found.add(RESULT, columns.row[answers.wrong_numbers(columns)])
    found.add(VIRQ, columns.row[answers.bound_again(columns, whose, lives)])
    found.add(NOTIFY, columns.row[notify.wrong(columns, whose, lives, past)])
    mail = events.mail(columns, whose, lives)
    found.add(STRAY, columns.row[events.stray(columns, whose, mail, past)])
    return mail, found


def _answers(
    columns: Columns, whose: Ports, about: Scope, made: Timeline, found: Findings
) -> tuple[answers.Reads, answers.Judged]:
    """Judge what operations answered."""
    these = answers.reads(columns, whose, about, made)
    judged = answers.judge(these, made)
    found.add(ANSWER, columns.row[judged.wrong])
    made.give_up(these.group[np.isin(these.operation, judged.wrong)])
    made.along()
    _crossed(columns, made, found)
    made.spread(columns)
    _crossed(columns, made, found)
    return these, judged


def _search(
    columns: Columns,
    whose: Ports,
    about: Scope,
    made: Timeline,
    these: answers.Reads,
    judged: answers.Judged,
    found: Findings,
) -> Callable[[], Searched]:
    """Return the search among those answers that are still open."""
    if found.violations:
        left = Searched(np.zeros(0, np.int64), np.union1d(judged.open, judged.guessed))
        return lambda: left
    doubtful = made.lives.born[made.lives.doubtful]
    vague = np.union1d(judged.guessed, doubtful)
    return lambda: look_into(columns, whose, about, made, these, judged.open, vague)


def _events(
    columns: Columns,
    whose: Ports,
    about: Scope,
    made: Timeline,
    found: Findings,
    flow: Flow,
    final: bool,
    past: Past,
) -> None:
    invented, masked = events.invented(columns, made, flow)
    found.add(INVENTED, columns.row[invented])
    found.add(INVENTED, columns.row[events.outnumbered(columns, made, flow)])
    found.add(INVENTED, columns.row[events.never_sent(columns, whose, about, past)])
    found.add(MASKED, columns.row[masked])
    if final:
        found.add(LOST, columns.row[events.lost(columns, whose, about, made, flow)])
