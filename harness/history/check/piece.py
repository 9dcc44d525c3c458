# SPDX-License-Identifier: GPL-2.0-or-later
"""One piece of a history, prepared: the one value that every rule is given.

A history that fits into memory is one piece.  A longer one is judged piece by piece, and what
is left behind is summed up in ``Past`` (harness.history.check.stream).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.history.check.lifetimes import Lifetimes, find_lifetimes
from harness.history.check.ports import Ports, ports_of
from harness.history.check.scope import Scope, widen
from harness.history.format.columns import NEVER, Columns, Int64


def _none() -> Int64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Past:
    """What is known about the pieces before, beside the operations carried over from them."""

    ports: Int64 = field(default_factory=_none)  # with lifetimes that are not carried
    unknown: Int64 = field(default_factory=_none)  # with connections that are not known
    first_row: int = 0  # of the operations that are not carried over
    judged: int = -NEVER  # ns: deliveries that returned before this have been judged
    given_up: Int64 = field(default_factory=_none)  # rows: under way for too long, not judged
    load_end: int = -NEVER  # ns: when the last operation that is no close was called


NO_PAST = Past()


@dataclass(frozen=True)
class Piece:
    """Operations in the order of their calls, and what the rules must know to read them."""

    recorded: Columns
    columns: Columns  # the same, with intervals widened (harness.history.check.scope)
    scope: Scope
    past: Past
    ports: Ports
    lifetimes: Lifetimes


def prepare(columns: Columns, scope: Scope, past: Past = NO_PAST) -> Piece:
    """Return the piece that consists of ``columns`` (as recorded: not widened)."""
    wide = widen(columns, scope)
    ports = ports_of(wide, scope)
    lifetimes = find_lifetimes(wide, ports, scope)
    return Piece(columns, wide, scope, past, ports, lifetimes)
