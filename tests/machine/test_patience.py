# SPDX-License-Identifier: GPL-2.0-or-later
"""Time that stands still while a machine wants a CPU and has none: with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.machine.patience import WALL, Deadline, MachineClock

_CPU = min(os.sched_getaffinity(0))
_BUSY = f"import os; os.sched_setaffinity(0, {{{_CPU}}})\nwhile True: pass"
_IDLE = "import time; time.sleep(60)"

Start = Callable[[str], int]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def started(program: str) -> int:
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", program]))
            stack.callback(process.kill)
            return process.pid

        yield started


def watched(clock: MachineClock, seconds: float) -> float:
    """Look at ``clock`` for so many seconds of the wall; return by how much it went on."""
    began, end = clock.now(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        clock.now()
    return clock.now() - began


def test_it_goes_slower_for_a_machine_that_gets_no_cpu(start: Start) -> None:
    busy = [start(_BUSY) for _ in range(4)]
    time.sleep(0.5)
    clock = MachineClock(lambda: busy[0])
    assert 0.05 < watched(clock, 2.0) < 1.2  # a quarter of the CPU is its own
    assert 0.3 < clock.starved < 0.98


def test_every_second_counts_for_a_machine_that_has_nothing_to_do(start: Start) -> None:
    idle = start(_IDLE)
    time.sleep(0.5)
    clock = MachineClock(lambda: idle)
    assert 0.8 < watched(clock, 1.0) < 1.5
    assert clock.starved < 0.2


def test_it_is_the_walls_while_there_is_no_machine() -> None:
    clock = MachineClock(lambda: 0)
    assert 0.29 < watched(clock, 0.3) < 1.0
    gone = MachineClock(lambda: 2**22 + 1)  # a process that has ended
    assert 0.29 < watched(gone, 0.3) < 1.0


def test_it_never_stands_still_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = 0.0

    def hopeless(_: int) -> dict[str, float]:
        return {"1": waited}

    monkeypatch.setattr("harness.machine.patience._waited", hopeless)
    clock = MachineClock(lambda: 1)
    before = clock.now()
    for _ in range(20):
        time.sleep(0.01)
        waited += 5.0
        clock.now()
    assert 0.2 / 20 <= clock.now() - before < 0.1


def test_a_deadline_is_a_moment_on_its_clock() -> None:
    deadline = Deadline(WALL, 0.2)
    assert 0 < deadline.left <= 0.2 and not deadline.over
    time.sleep(0.25)
    assert deadline.over and deadline.left < 0
