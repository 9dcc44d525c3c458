# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds a lease: one process of one boot of one computer, told apart without any clock.

A process is named by the boot id of its kernel, by its PID and time namespaces, and by its number
and start time in them.  The start time is in clock ticks since boot, as the kernel keeps it: a
correction of the wall clock does not change it.  Only a reader in the same boot and the same
namespaces can say that the process is dead: elsewhere its number means another process, or none.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_PROC = Path("/proc")
_LONGEST = 200  # characters of a text in a lease; host names have at most 64
_LAST_PID = 1 << 22  # Linux has no larger one


class Fate(StrEnum):
    """What a reader can say about the process that holds a lease."""

    RUNS = "runs"
    DEAD = "dead"
    UNKNOWN = "unknown"  # it is stopped, or cannot be looked at from here


@dataclass(frozen=True)
class Process:
    """Process ``pid`` of ``machine``.  An empty text, or 0 ticks, is what could not be read."""

    machine: str
    boot: str  # boot id of the kernel, as in /proc/sys/kernel/random/boot_id
    namespace: str  # PID and time namespace, as /proc/PID/ns names them
    pid: int
    ticks: int  # start time in clock ticks since boot: its number may be used again later

    def __post_init__(self) -> None:
        """ValueError if a field cannot be what it should: a lease file may have any content."""
        texts = self.machine, self.boot, self.namespace
        if not all(isinstance(t, str) and len(t) <= _LONGEST and t.isprintable() for t in texts):
            raise ValueError("not a process: its names")
        if not all(type(number) is int for number in (self.pid, self.ticks)):
            raise ValueError("not a process: its numbers")
        if not 0 < self.pid <= _LAST_PID or self.ticks < 0:
            raise ValueError("not a process: its numbers")

    def __str__(self) -> str:
        return f"process {self.pid} of {self.machine}"


def this_process() -> Process:
    """Return the process that calls."""
    pid = os.getpid()
    _, ticks = _state(pid)
    return Process(socket.gethostname(), _boot(), _namespace(), pid, ticks)


def fate(process: Process) -> Fate:
    """Return what can be said from here about ``process``.

    DEAD is certain.  UNKNOWN, wherever something could not be read: then only time can tell.
    """
    here = _boot(), _namespace()
    if not all(here) or here != (process.boot, process.namespace):
        return Fate.UNKNOWN
    try:
        os.kill(process.pid, 0)  # /proc may hide the processes of other users, this does not
    except ProcessLookupError:
        return Fate.DEAD
    except OSError:  # it is another user's
        pass
    state, ticks = _state(process.pid)
    if not state or not process.ticks:
        return Fate.UNKNOWN
    if ticks != process.ticks or state in "ZX":
        return Fate.DEAD
    return Fate.UNKNOWN if state in "Tt" else Fate.RUNS


def _boot() -> str:
    return _read("sys/kernel/random/boot_id").strip()


def _namespace() -> str:
    with contextlib.suppress(OSError):
        names = [str((_PROC / "self/ns/pid").readlink())]
        with contextlib.suppress(FileNotFoundError):  # kernels before 5.6 have no time namespaces
            names.append(str((_PROC / "self/ns/time").readlink()))
        return " ".join(names)
    return ""


def _state(pid: int) -> tuple[str, int]:
    """Return the state and the start time of a process; "" and 0 if they cannot be seen.

    Fields 3 and 22 of /proc/PID/stat (proc_pid_stat(5)).  The name, field 2, may contain anything.
    """
    if not _proc_is_ours():
        return "", 0
    fields = _read(f"{pid}/stat").rpartition(")")[2].split()
    return (fields[0], int(fields[19])) if len(fields) > 19 else ("", 0)


def _proc_is_ours() -> bool:
    """Say whether /proc shows our PID namespace, and not that of a parent, where numbers differ."""
    for row in _read("self/status").splitlines():
        if row.startswith("NSpid:"):
            return row.split()[1:] == [str(os.getpid())]
    return False


def _read(name: str) -> str:
    try:
        return (_PROC / name).read_text(errors="replace")
    except OSError:
        return ""
