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
