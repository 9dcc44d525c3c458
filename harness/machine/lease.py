# SPDX-License-Identifier: GPL-2.0-or-later
"""One lease per server: only its holder uses the server; if the holder dies, it is soon free.

A lease is a small file that its holder renews.  If several computers use the same servers, they
must share the folder of the leases ($EVTCHN_HARNESS_LEASES); by default it is in the cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from harness import cache
from harness.verdict import LabError

ENVIRONMENT = "EVTCHN_HARNESS_LEASES"
_LIFE = 60.0  # seconds that a lease lasts without being renewed
_RENEW = 15.0
_PAUSE = 1.0


@dataclass(frozen=True)
class Lease:
    """Who holds a server: process ``pid`` of ``machine``, until ``until`` (seconds since 1970)."""

    token: str
    machine: str
    pid: int
    born: float  # start time of the process: its pid may be used again later
    until: float

    def alive(self) -> bool:
        """Return whether the holder may still use the server."""
        if time.time() > self.until:
            return False
        return self.machine != socket.gethostname() or _born(self.pid) == self.born


def folder() -> Path:
    """Return the folder of the leases."""
    chosen = os.environ.get(ENVIRONMENT)
    return Path(chosen) if chosen else cache.root() / "leases"


def holder(name: str) -> Lease | None:
    """Return the lease of server ``name``; None if the server is free."""
    found = _read(folder() / f"{name}.json")
    return found if found is not None and found.alive() else None


@contextmanager
def lease(name: str, notice: Callable[[str], None], *, wait: float) -> Iterator[None]:
    """Hold the lease of server ``name`` in the block; LabError if it is not free in ``wait`` s."""
    path = folder() / f"{name}.json"
    mine = Lease(secrets.token_hex(8), socket.gethostname(), os.getpid(), _born(os.getpid()), 0)
    deadline = time.monotonic() + wait
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (other := _take(path, mine)) is not None:
            held = f"process {other.pid} of {other.machine} holds it"
            if time.monotonic() > deadline:
                raise LabError(
                    f"another run still uses the server after {wait:.0f} s: {held}",
                    where=name,
                    hint="wait for its end, or set a larger limits.wait in lab.yaml",
                )
            notice(f"waiting for {name}: {held}")
            time.sleep(_PAUSE)
    except OSError as error:
        raise LabError(f"cannot write the lease: {error.strerror}", where=str(path)) from error
    ended = threading.Event()
    renewer = threading.Thread(target=_renew, args=(path, mine, ended), daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        with contextlib.suppress(OSError), _locked(path):
            if (now := _read(path)) is not None and now.token == mine.token:
                path.unlink()


def _take(path: Path, mine: Lease) -> Lease | None:
    """Take or renew the lease; if somebody else holds it, return that lease, else None."""
    with _locked(path):
        now = _read(path)
        if now is not None and now.token != mine.token and now.alive():
            return now
        fresh = asdict(mine) | {"until": time.time() + _LIFE}
        part = path.with_suffix(f".{mine.token}")
        part.write_text(json.dumps(fresh))
        part.rename(path)
    return None


def _renew(path: Path, mine: Lease, ended: threading.Event) -> None:
    while not ended.wait(_RENEW):
        with contextlib.suppress(OSError):
            _take(path, mine)


def _locked(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), timeout=10)


def _read(path: Path) -> Lease | None:
    try:
        return Lease(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _born(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0
