"""Debug keys over the console: what is left where nobody can look into the machine."""

from __future__ import annotations

import queue
import re
import time

from harness.hypervisor import debug_keys
from harness.hypervisor.cpu import Cpu
from harness.machine.console import Console
from harness.verdict import LabError

_ANSWER_SECONDS = 3.0
_QUIET_SECONDS = 1.5  # after the last line; at 115200 baud a CPU's state takes about a second
_WHOLE_SECONDS = 60.0


def registers(console: Console) -> list[Cpu]:
    """Press ``d`` and return where Xen says that its CPUs are.

    LabError when Xen does not answer: its console's CPU has interrupts off, or is dead.
    """
    with console.listen("xen") as lines:
        _turn_to(console, lines, "Xen")
        try:
            console.type(debug_keys.DUMP_REGISTERS.encode())
            if not _comes(lines, debug_keys.ANSWER, _ANSWER_SECONDS):
                raise LabError("Xen does not answer to debug keys", where="console")
            found = debug_keys.registers(_until_quiet(lines))
        finally:
            _turn_to(console, lines, "DOM0")
    return found


def _turn_to(console: Console, lines: queue.Queue[str], reader: str) -> None:
    """Switch the console's input to ``reader``; there may be others on the way round."""
    for _ in range(4):
        console.type(debug_keys.SWITCH)
        said = _comes(lines, debug_keys.INPUT, _ANSWER_SECONDS)
        if not said or said == reader:
            return


def _comes(lines: queue.Queue[str], pattern: re.Pattern[str], seconds: float) -> str:
    """Wait for a line that matches; return what it names, "" when none comes."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            found = pattern.search(lines.get(timeout=left))
        except queue.Empty:
            break
        if found:
            return found[found.lastindex or 0]
    return ""


def _until_quiet(lines: queue.Queue[str]) -> list[str]:
    """Return what comes until nothing has come for a while."""
    deadline = time.monotonic() + _WHOLE_SECONDS
    seen = []
    while time.monotonic() < deadline:
        try:
            seen.append(lines.get(timeout=_QUIET_SECONDS))
        except queue.Empty:
            break
    return seen
