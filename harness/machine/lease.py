# SPDX-License-Identifier: GPL-2.0-or-later
"""One lease per server: only its holder uses the server; if the holder dies, it is soon free.

If several computers use the same servers, they must share the folder of the leases
($EVTCHN_HARNESS_LEASES); by default it is in the cache.  ``tenure`` says how a lease expires
although no two computers have the same time, ``lease_files`` what is in the folder.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import cache
from harness.machine.lease_files import LeaseFiles
from harness.machine.tenure import RENEW, Claim, LeaseLost, Tenure
from harness.verdict import LabError

ENVIRONMENT = "EVTCHN_HARNESS_LEASES"
_PAUSE = 1.0
_RETRY = 3.0  # after a renewal that failed


class Held:
    """The lease of a server, as long as the block of ``lease`` runs and nobody has taken it."""

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure
        self._ended = threading.Event()
        self._calls: list[Callable[[], None]] = []
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def check(self) -> None:
        """LeaseLost if this run may not use the server any more.  Costs nothing: call it often."""
        self._tenure.check()

    def confirm(self) -> None:
        """Renew the lease now; LeaseLost if it is not ours any more.

        For orders that would harm another run: in the moment before, nobody else had the server.
        If the storage fails, the time decides: nobody can have taken the lease yet.
        """
        try:
            self._tenure.confirm()
        except OSError:
            self._tenure.check()

    def when_lost(self, call: Callable[[], None]) -> None:
        """Have ``call`` called, from another thread, about a second after the lease is lost.

        It ends what this run waits for.
        """
        self._calls.append(call)

    def _renew(self) -> None:
        due = RENEW
        while not self._ended.wait(_PAUSE):
            try:
                self._tenure.check()
                if self._tenure.age >= due:
                    self._tenure.confirm()
                    due = RENEW
            except LeaseLost:
                for call in tuple(self._calls):
                    with contextlib.suppress(Exception):  # what is closed may be broken already
                        call()
                return
            except (OSError, LabError):  # the storage may come back, and ``check`` counts the time
                due = self._tenure.age + _RETRY

    def __enter__(self) -> Held:
        self._renewer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._renewer.join(2 * _RETRY)
        self._tenure.end()


def folder() -> Path:
    """Return the folder of the leases."""
    chosen = os.environ.get(ENVIRONMENT)
    return Path(chosen) if chosen else cache.root() / "leases"


def holder(name: str) -> str:
    """Return who holds server ``name``: "process 12 of lab-1"; "" if the server is free.

    If the holder cannot be looked at from here, wait until it renews its lease, or has not done so
    for a lease's life (60 s): then the server is free.
    """
    with _explained():
        claim = Claim(LeaseFiles(folder(), name), name)
        while not claim.free():
            if claim.alive:
                return claim.holder
            time.sleep(_PAUSE)
    return ""


@contextmanager
def lease(name: str, notice: Callable[[str], None], *, wait: float) -> Iterator[Held]:
    """Hold the lease of server ``name`` in the block; LabError if it is not free in ``wait`` s.

    Who has not shown that it is alive is waited for longer: until it does, or the lease expires.
    """
    with Held(_taken(name, notice, wait)) as held:
        yield held


def _taken(name: str, notice: Callable[[str], None], wait: float) -> Tenure:
    deadline = time.monotonic() + wait
    with _explained():
        claim = Claim(LeaseFiles(folder(), name), name)
        while (tenure := claim.take()) is None:
            held = f"{claim.holder or 'another run'} holds it"
            if claim.alive and time.monotonic() > deadline:
                raise LabError(
                    f"another run still uses the server after {wait:.0f} s: {held}",
                    where=name,
                    hint="wait for its end, or set a larger limits.wait in lab.yaml",
                )
            unseen = "" if claim.alive else "; looking whether it still renews its lease"
            notice(f"waiting for {name}: {held}{unseen}")
            time.sleep(_PAUSE)
    return tenure


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(
            f"cannot use the leases: {error.strerror}",
            where=str(error.filename or folder()),
            hint=f"whoever uses the servers must be able to write in {folder()} and to read what "
            f"others write: correct its permissions, or set {ENVIRONMENT}",
        ) from error
