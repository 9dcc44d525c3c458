# SPDX-License-Identifier: GPL-2.0-or-later
"""A time limit for calls to dom0's libvirt: if Xen hangs, such a call never returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from harness.machine.patience import WALL, Clock, Deadline
from harness.verdict import LabError

_T = TypeVar("_T")
_LOOK_SECONDS = 0.25  # between two looks at the clock


class Overdue(LabError):
    """A call has not returned in time."""


def within(
    seconds: float,
    what: str,
    where: str,
    call: Callable[[], _T],
    clock: Clock = WALL,
    watch: Callable[[], None] = lambda: None,
) -> _T:
    """Return the result of ``call``; Overdue if it has not returned after ``seconds`` of ``clock``.

    It runs in a thread of its own, so that Ctrl-C works.  An overdue thread stays until the
    connection ends.  While we wait, ``watch`` is called now and then: it raises if waiting has
    become pointless.
    """
    result: Future[_T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    deadline = Deadline(clock, seconds)
    while True:
        try:
            return result.result(max(0.0, min(deadline.left, _LOOK_SECONDS)))
        except TimeoutError:
            if result.done():  # the TimeoutError may be of ``call`` itself
                return result.result()
            watch()
            if deadline.over:
                raise Overdue(
                    f"{what} has not come back after {seconds:.0f} s", where=where
                ) from None
