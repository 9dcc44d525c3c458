# SPDX-License-Identifier: GPL-2.0-or-later
"""The line to the bare guest's relay, where the machine has none of its own."""

from __future__ import annotations

import socket

import pytest

from harness.machine.line import Line
from harness.run.bare import process_of
from harness.verdict import LabError


def test_the_relay_says_its_process_and_nothing_more_is_read() -> None:
    here, there = socket.socketpair()
    there.sendall(b"1234\nhello")
    line = Line(here, "bare")
    assert process_of(line) == 1234
    assert line.read(16, 1.0) == b"hello"


def test_a_relay_that_ends_at_once_is_told_and_not_waited_for() -> None:
    here, there = socket.socketpair()
    there.sendall(b"12")
    there.close()
    with pytest.raises(LabError, match="ended before it printed its pid"):
        process_of(Line(here, "bare"))
