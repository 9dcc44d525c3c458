# SPDX-License-Identifier: GPL-2.0-or-later
"""A time limit for calls to dom0's libvirt: if Xen hangs, such a call never returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from harness.verdict import LabError

_T = TypeVar("_T")


class Overdue(LabError):
    """A call has not returned in time."""


def within(seconds: float, what: str, where: str, call: Callable[[], _T]) -> _T:
    """Return the result of ``call``; Overdue if it has not returned after ``seconds``.

    It runs in a thread of its own, so that Ctrl-C works.  An overdue thread stays until the
    connection ends.
    """
    result: Future[_T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    try:
        return result.result(seconds)
    except TimeoutError:
        if result.done():  # the TimeoutError is of ``call`` itself
            raise
        raise Overdue(f"{what} has not come back after {seconds:.0f} s", where=where) from None
