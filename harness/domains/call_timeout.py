"""Calls into dom0's libvirt: nothing can interrupt them, and a Xen that hangs never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from harness.verdict import LabError

_T = TypeVar("_T")


class Overdue(LabError):
    """A call has not come back in time."""


def within(seconds: float, what: str, where: str, call: Callable[[], _T]) -> _T:
    """Return what ``call`` does; Overdue when it has not come back after ``seconds``.

    It runs in a thread of its own, which then stays until its connection ends: so Ctrl-C works.
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
        if result.done():  # its own
            raise
        raise Overdue(f"{what} has not come back after {seconds:.0f} s", where=where) from None
