# SPDX-License-Identifier: GPL-2.0-or-later
"""One lease, seen by who waits for it (``Claim``) and by who has it (``Tenure``).

No time is ever compared with that of another computer:

- The holder writes its lease again every RENEW seconds, with a number that grows.
- Who waits takes the lease when it has not changed for LIFE seconds of its own monotonic clock
  (or when the holder gave it back, or is certainly dead).
- The holder counts the seconds since its last renewal on CLOCK_BOOTTIME, which goes on while the
  computer is suspended and the process is stopped.  After HELD of them, long before anybody can
  have waited for LIFE, it has lost the lease for good, even if nobody has taken it.

    holder   write ---- RENEW ---- write ------------ HELD ------------X lost
    reader                           sees it ----------------- LIFE ---------------- takes it

So never two use the server, and nobody waits for a dead holder longer than LIFE.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from harness.machine.holder import Fate, Process, fate, this_process
from harness.machine.lease_files import FREE, Entry, LeaseFiles
from harness.verdict import LabError

LIFE = 60.0
HELD = 45.0
RENEW = 15.0
_BUSY_SECONDS = 10.0  # how long to wait for a renewal that another thread has begun


class LeaseLost(LabError):
    """This run's lease is lost: somebody else may use the server."""

    def __init__(self, why: str, where: str) -> None:
        super().__init__(
            f"the lease is lost: {why}; somebody else may use the server now",
            where=where,
            hint="it was left as it is, not even switched off: see `evtchn-harness lab check`",
        )


@dataclass(frozen=True)
class Lease:
    """What a lease file says: who holds the server, and how often it has renewed that."""

    token: str  # of this tenure, as the same process may hold the server again later
    process: Process
    renewals: int


@dataclass(frozen=True)
class Surroundings:
    """The clocks of this computer, in seconds, and what it knows about processes."""

    monotonic: Callable[[], float] = time.monotonic
    boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    me: Callable[[], Process] = this_process
    fate: Callable[[Process], Fate] = fate


HERE = Surroundings()


class Claim:
    """Somebody who looks at a lease, again and again, and may take it.

    ``holder`` is who holds it, "" if it is free.  ``alive`` says whether that one has shown that
    it is alive: its process runs, or it has renewed the lease since we look.
    """

    def __init__(self, files: LeaseFiles, name: str, here: Surroundings = HERE) -> None:
        self._files = files
        self._name = name
        self._here = here
        self._seen: Entry | None = None
        self._since = 0.0
        self._moved = False
        self.holder = ""
        self.lease: Lease | None = None
        self.alive = False

    def free(self) -> bool:
        """Look at the lease; return whether it can be taken."""
        return self._look() is not None

    def take(self) -> Tenure | None:
        """Look at the lease and take it if it is free; None if it is not, or another was faster."""
        old = self._look()
        if old is None:
            return None
        mine = Lease(secrets.token_hex(8), self._here.me(), 0)
        began = self._here.boottime()  # before others can see it
        body = _encoded(mine)
        file = self._files.create(old.number + 1, body)
        if file is None:
            return None
        tenure = Tenure(
            self._files, self._name, mine, Entry(old.number + 1, body), file, began, self._here
        )
        try:
            tenure.confirm()  # what we looked at may have been replaced, and removed, meanwhile
        except LeaseLost:
            tenure.end()
            return None
        except BaseException:
            tenure.end()
            raise
        self._files.sweep(old.number + 1)
        return tenure

    def _look(self) -> Entry | None:
        """Return the newest entry if its holder is gone, None while it may live."""
        now = self._here.monotonic()
        entry = self._files.newest()
        if entry != self._seen:
            self._moved = self._seen is not None and entry.body != FREE
            self._seen, self._since = entry, self._here.monotonic()
            now = self._since
        self.lease = _decoded(entry.body)
        self.holder = "" if entry.body == FREE else _told(self.lease)
        if not self.holder:
            self.alive = False
            return entry
        known = self._here.fate(self.lease.process) if self.lease else Fate.UNKNOWN
        if known is Fate.DEAD or now - self._since >= LIFE:
            self.holder, self.alive = "", False
            return entry
        self.alive = self._moved or known is Fate.RUNS
        return None


class Tenure:
    """A lease that this process holds.  Safe to use from several threads."""

    def __init__(
        self,
        files: LeaseFiles,
        name: str,
        lease: Lease,
        entry: Entry,
        file: int,
        began: float,
        here: Surroundings,
    ) -> None:
        self._files = files
        self._name = name
        self._lease = lease
        self._number = entry.number
        self._file = file
        self._renewed = began  # on CLOCK_BOOTTIME: before the write that others count from
        self._here = here
        self._busy = threading.Lock()
        self._body = entry.body  # what our file contains, if the last write did not fail
        self._lost = ""
        self._trouble = ""

    @property
    def age(self) -> float:
        """Seconds since the last renewal."""
        return self._here.boottime() - self._renewed

    def check(self) -> None:
        """LeaseLost if this process has not renewed the lease for too long, or has lost it."""
        age = self.age
        if not self._lost and age >= HELD:
            why = self._trouble or "this run was stopped or suspended"
            self._lost = f"it was not renewed for {age:.0f} s ({why})"
        if self._lost:
            raise LeaseLost(self._lost, self._name)

    def confirm(self) -> None:
        """Renew the lease; LeaseLost unless it is still ours after that.

        A storage that fails is OSError, and not yet a loss: what counts is the time, see ``check``.
        """
        if not self._busy.acquire(timeout=_BUSY_SECONDS):
            self.check()
            raise LabError("the lease cannot be renewed: its folder is busy", where=self._name)
        try:
            self.check()
            self._renew()
            self.check()
        finally:
            self._busy.release()

    def end(self) -> None:
        """Give the server back, if it is still ours to give; never raises."""
        if not self._busy.acquire(timeout=_BUSY_SECONDS):
            return  # the storage hangs: the lease expires by itself
        try:
            if self._file < 0:
                return
            with contextlib.suppress(OSError, LeaseLost):
                self.check()
                self._files.write(self._file, FREE)
            self._lost = self._lost or "it was given back"
            os.close(self._file)
            self._file = -1
        finally:
            self._busy.release()

    def _renew(self) -> None:
        now = self._here.boottime()
        try:
            if self._is_ours():
                self._lease = replace(self._lease, renewals=self._lease.renewals + 1)
                body = _encoded(self._lease)
                self._files.write(self._file, body)
                self._body, self._trouble = body, ""
                if self._is_ours():
                    # Written in time, before anybody can have decided that the lease has expired?
                    # A process may be stopped between any two lines of this.
                    self.check()
                    self._renewed = now
        except OSError as error:
            self._trouble = f"its file cannot be written: {error.strerror}"
            raise

    def _is_ours(self) -> bool:
        newest = self._files.newest()
        # After a write that failed, the half of it may be there.
        if newest.number == self._number and (newest.body == self._body or self._trouble):
            return True
        if newest.number > self._number:
            self._lost = f"{_told(_decoded(newest.body))} has taken it"
        else:
            self._lost = "somebody has removed or changed its file"
        return False


def _told(lease: Lease | None) -> str:
    return str(lease.process) if lease else "somebody, whose lease cannot be read,"


def _encoded(lease: Lease) -> bytes:
    return (json.dumps(asdict(lease)) + "\n").encode()


def _decoded(body: bytes) -> Lease | None:
    """Return the lease in ``body``; None if it is none."""
    try:
        found = json.loads(body)
        process = Process(**found["process"])
        token, renewals = str(found["token"]), int(found["renewals"])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return Lease(token, process, renewals)
