# SPDX-License-Identifier: GPL-2.0-or-later
"""The line to an agent: bytes, silence, and a machine that dies while somebody waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from harness.machine.line import Line
from harness.verdict import HypervisorError


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_bytes_come_as_they_are(ends: tuple[socket.socket, socket.socket]) -> None:
    line = Line(ends[0], "agent.0")
    ends[1].sendall(b"ok\n")
    assert line.read(100, 1.0) == b"ok\n"
    ends[1].close()
    assert line.read(100, 1.0) == b""


def test_silence_lasts_as_long_as_was_said(ends: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"agent\.0: silent for 0\.4 s"):
        Line(ends[0], "agent.0").read(100, 0.4)
    assert 0.4 <= time.monotonic() - began < 2.0


def test_nobody_waits_for_a_machine_that_died(ends: tuple[socket.socket, socket.socket]) -> None:
    line = Line(ends[0], "agent.0")
    silences: list[float] = []

    def watch(silent: float) -> None:
        silences.append(silent)
        if silent > 0.6:
            raise HypervisorError("Panic on CPU 0:")

    line.watch = watch
    began = time.monotonic()
    with pytest.raises(HypervisorError):
        line.read(100, 30.0)
    assert time.monotonic() - began < 5.0
    assert silences == sorted(silences) and silences[0] < 0.6


def test_what_came_before_the_death_is_read(ends: tuple[socket.socket, socket.socket]) -> None:
    def watch(silent: float) -> None:
        raise HypervisorError("Panic on CPU 0:")

    line = Line(ends[0], "agent.0")
    line.watch = watch
    ends[1].sendall(b"x")
    assert line.read(1, 1.0) == b"x"
