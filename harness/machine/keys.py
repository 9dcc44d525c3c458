# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's debug keys and the console: the way to see a server's CPUs, whose memory is closed, and
what a key prints that a guest has pressed."""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.hypervisor import debug_keys
from harness.hypervisor.cpu import Cpu
from harness.machine.console import Console
from harness.verdict import LabError

_ANSWER_SECONDS = 3.0
_QUIET_SECONDS = 1.5  # after the last line; at 115200 baud a CPU's state takes about a second
_WHOLE_SECONDS = 60.0


def registers(console: Console) -> list[Cpu]:
    """Press debug key ``d`` and return the registers of each CPU that Xen prints.

    LabError if Xen does not answer: the CPU that serves the console has interrupts off, or died.
    """
    with console.listen("xen") as lines:
        _turn_to(console, lines, "Xen")
        try:
            console.type(debug_keys.DUMP_REGISTERS.encode())
            if not _comes(lines, debug_keys.ANSWER, _ANSWER_SECONDS):
                raise LabError("Xen does not react to its debug keys", where="console")
            found = debug_keys.registers(_until_quiet(lines))
        finally:
            _turn_to(console, lines, "DOM0")
    return found


@contextmanager
def printed(console: Console, quiet: float = _QUIET_SECONDS) -> Iterator[list[str]]:
    """Yield a list, which has after the block what Xen has printed in it, line by line.

    ``quiet``: for so many seconds after the block no line must have come.
    """
    lines: list[str] = []
    with console.listen("xen") as heard:
        yield lines
        lines += _until_quiet(heard, quiet)


def _turn_to(console: Console, lines: queue.Queue[str], reader: str) -> None:
    """Press Ctrl-A three times, repeatedly, until Xen says that ``reader`` gets the input."""
    for _ in range(4):
        console.type(debug_keys.SWITCH)
        said = _comes(lines, debug_keys.INPUT, _ANSWER_SECONDS)
        if not said or said == reader:
            return


def _comes(lines: queue.Queue[str], pattern: re.Pattern[str], seconds: float) -> str:
    """Wait for a line that matches; return its last group, "" if none comes in time."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            found = pattern.search(lines.get(timeout=left))
        except queue.Empty:
            break
        if found:
            return found[found.lastindex or 0]
    return ""


def _until_quiet(lines: queue.Queue[str], quiet: float = _QUIET_SECONDS) -> list[str]:
    """Return the lines that come, until there is none for ``quiet`` seconds."""
    deadline = time.monotonic() + _WHOLE_SECONDS
    seen = []
    while time.monotonic() < deadline:
        try:
            seen.append(lines.get(timeout=quiet))
        except queue.Empty:
            break
    return seen
