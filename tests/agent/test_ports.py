# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a port is, when threads are late to write it down."""

from __future__ import annotations

from pathlib import Path

from harness.agent.build import SOURCES
from harness.command import run, which


def test_no_port_is_lost_whoever_writes_down_late(tmp_path: Path) -> None:
    source = Path(__file__).with_name("ports.c")
    program = tmp_path / "ports"
    gcc = which("gcc", "gcc libc6-dev")
    run([gcc, "-Wall", "-Werror", f"-I{SOURCES}", "-o", program, source, SOURCES / "ports.c"])
    run([program])


def test_two_threads_that_open_a_handle_at_once_share_one_file(tmp_path: Path) -> None:
    """Else a port that one of them binds is a port of a file that nobody knows any more."""
    source = Path(__file__).with_name("handles.c")
    program = tmp_path / "handles"
    gcc = which("gcc", "gcc libc6-dev")
    units = [SOURCES / name for name in ("device.c", "ports.c")]
    flags = ["-D_GNU_SOURCE", "-pthread", "-Wall", "-Werror", f"-I{SOURCES}"]
    run([gcc, *flags, "-o", program, source, *units])
    run([program])
