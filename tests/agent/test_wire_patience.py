# SPDX-License-Identifier: GPL-2.0-or-later
"""An operation is overdue by the machine's clock, not by the guest's alone."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from harness.agent.wire import Connection, OperationInFlight

IN_FLIGHT = f"err errno={errno.ETIME} what=in-flight on=1"
BUSY = f"err errno={errno.EBUSY} what=in-flight on=1"
DONE = "ok result=0 call=5 ret=9 cpu=1"
RAW: dict[str, int | str] = {"via": "raw", "on": 1, "wait_ms": 5000}


class SlowMachine:
    """A channel and a clock: each command takes the guest's 5 s, of which the machine has
    ``share``."""

    starved = 0.0

    def __init__(self, share: float, answer: Callable[[str], str]) -> None:
        self._share, self._answer = share, answer
        self._now = 0.0
        self._said = b""
        self.asked: list[str] = []

    def now(self) -> float:
        return self._now

    def write(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            self.asked.append(line)
            self._now += 5.0 * self._share
            self._said += f"{self._answer(line)}\n".encode()

    def read(self, limit: int, timeout: float) -> bytes:
        said, self._said = self._said, b""
        return said

    def close(self) -> None:
        pass


def returns_after(joins: int) -> Callable[[str], str]:
    """Return how an agent answers whose operation returns during the join with that number."""
    left = joins

    def answer(line: str) -> str:
        nonlocal left
        if line.startswith("join"):
            left -= 1
        return IN_FLIGHT if left > 0 else DONE

    return answer


def test_an_operation_of_a_machine_without_cpus_is_awaited() -> None:
    machine = SlowMachine(0.1, returns_after(5))
    answer = Connection(machine, "dom0", machine).ask("send", {**RAW, "port": 4})
    assert answer.integer("ret") == 9
    assert machine.asked[1:] == ["join on=1 wait_ms=2000"] * 5


def test_an_operation_of_a_quiet_machine_is_overdue_at_once() -> None:
    machine = SlowMachine(1.0, lambda _: IN_FLIGHT)
    with pytest.raises(OperationInFlight, match="send"):
        Connection(machine, "dom0", machine).ask("send", {**RAW, "port": 4})
    assert len(machine.asked) == 1


def test_what_never_returns_is_told_in_the_end() -> None:
    machine = SlowMachine(0.2, lambda _: IN_FLIGHT)
    with pytest.raises(OperationInFlight, match="release"):
        Connection(machine, "dom0", machine).ask("release")
    assert 3 <= len(machine.asked) <= 6


def test_a_command_of_many_operations_is_given_again_when_its_worker_is_free() -> None:
    over = False

    def answer(line: str) -> str:
        nonlocal over
        over = over or line.startswith("join")
        return DONE if line.startswith("join") else "ok asked=2 open=" if over else IN_FLIGHT

    machine = SlowMachine(0.1, answer)
    assert Connection(machine, "dom0", machine).ask("release").integer("asked") == 2
    assert [line.split()[0] for line in machine.asked] == ["release", "join", "release"]


def test_commands_behind_a_slow_one_are_given_again() -> None:
    joined = False

    def answer(line: str) -> str:
        nonlocal joined
        if line.startswith("join"):
            joined = True
            return DONE
        return f"{DONE} {line.split()[-1]}" if joined else IN_FLIGHT if "port=1" in line else BUSY

    machine = SlowMachine(0.1, answer)
    commands = [{**RAW, "port": port} for port in (1, 2, 3)]
    answers = Connection(machine, "dom0", machine).ask_in_a_row("send", commands)
    assert [each.fields.get("port") for each in answers] == [None, "2", "3"]
