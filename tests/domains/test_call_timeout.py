# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import threading

import pytest

from harness.domains.call_timeout import Overdue, within
from harness.verdict import LabError


def test_what_comes_back_is_passed_on() -> None:
    assert within(5, "adding", "here", lambda: 1 + 1) == 2


def test_so_is_what_it_raises() -> None:
    def fails() -> None:
        raise LabError("no")

    def is_late_itself() -> None:
        raise TimeoutError("mine")

    with pytest.raises(LabError, match="no"):
        within(5, "failing", "here", fails)
    with pytest.raises(TimeoutError, match="mine"):
        within(5, "failing", "here", is_late_itself)


def test_what_does_not_come_back_is_said() -> None:
    never = threading.Event()
    with pytest.raises(Overdue, match=r"d1: waiting has not come back after 0 s"):
        within(0.05, "waiting", "d1", lambda: never.wait(20))
    never.set()


def test_waiting_ends_as_soon_as_it_is_pointless() -> None:
    never = threading.Event()

    def watch() -> None:
        raise LabError("Xen has crashed")

    with pytest.raises(LabError, match="Xen has crashed"):
        within(20, "waiting", "d1", lambda: never.wait(20), watch=watch)
    never.set()
