# SPDX-License-Identifier: GPL-2.0-or-later
"""A history: what every agent thread did, when (on one clock), and with what answer.

A domain's clock is a straight line: a counter value stands for
``(ticks - ticks_at_zero) * 1e9 / tick_hz`` nanoseconds of reference time, right to
within ``error_ns``.  Call times are rounded down and return times up, so that an
interval never becomes shorter than it was.

``harness.history.format.parquet`` keeps histories in files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import RECORD, Op, Via
from harness.verdict import ConfigError

# What a run may say in ``History.meta``, and what holds when it does not.
META_DEFAULTS: dict[str, int] = {
    "cpu_error_ns": 0,  # how far the counters of two CPUs of one domain can differ
    # After the load had stopped everywhere, and before the first port was closed, agents
    # read events from all device ports until none had come for so long; 0: they did not.
    "drained_ns": 0,
}


_LONGEST = 1 << 60  # ns: 36 years; sums of such times are still 64 bits


@dataclass(frozen=True)
class ThreadLog:
    """The records of one agent thread, in the order it made them, and its domain's clock."""

    domid: int
    domain: str  # "dom0", "domu1", ...
    thread: int  # number of the thread in its domain
    vcpu: int  # the vCPU it is pinned to; -1: not pinned
    records: npt.NDArray[np.void]  # of RECORD
    tick_hz: int
    ticks_at_zero: int  # the domain's counter at reference time 0
    error_ns: int  # bound of the clock's error against the reference
    lost: int = 0  # operations done after the buffer was full: not recorded

    @property
    def name(self) -> str:
        """The thread's name in witnesses."""
        return f"{self.domain}/t{self.thread}"

    def call_ns(self) -> Int64:
        """Return the call times: ns of reference time, rounded down."""
        return self._nanoseconds(self.records["call"], up=False)

    def ret_ns(self) -> Int64:
        """Return the return times: ns of reference time, rounded up; NEVER while in flight."""
        ticks = self.records["ret"]
        return np.where(ticks == 0, NEVER, self._nanoseconds(ticks, up=True))

    def last_ns(self) -> int:
        """Return when the last operation ended (or began, if in flight); 0 without operations."""
        call, ret = self.call_ns()[-1:], self.ret_ns()[-2:]
        return int(max([*call, *ret[ret != NEVER]], default=0))

    def _nanoseconds(self, ticks: npt.NDArray[np.uint64], *, up: bool) -> Int64:
        since = (ticks - np.uint64(self.ticks_at_zero % (1 << 64))).view(np.int64)
        if self.tick_hz == 1_000_000_000:
            return since.copy()
        seconds, rest = np.divmod(since, self.tick_hz)  # in two parts: a product would overflow
        rest *= 1_000_000_000
        nanoseconds = -(-rest // self.tick_hz) if up else rest // self.tick_hz
        return np.asarray(seconds * 1_000_000_000 + nanoseconds, dtype=np.int64)

    def validate(self) -> None:
        """Raise ConfigError when these cannot be the records of one thread, made in order."""
        where = f"thread {self.name}"
        records = self.records
        if records.dtype != RECORD:
            raise ConfigError("the records do not have the 32-byte layout", where=where)
        if not 0 < self.tick_hz <= 9_000_000_000:
            raise ConfigError(f"the clock's rate cannot be {self.tick_hz} Hz", where=where)
        if self.error_ns < 0 or self.lost < 0:
            raise ConfigError("error_ns and lost cannot be negative", where=where)
        if max(self.error_ns, self.lost) > _LONGEST or abs(self.ticks_at_zero) > 1 << 64:
            raise ConfigError("error_ns, lost or ticks_at_zero is too large", where=where)
        call, ret = records["call"], records["ret"]
        in_flight = ret == 0
        known = np.isin(records["op"], list(Op)) & np.isin(records["via"], list(Via))
        for bad, what in (
            (~known, "record {0} has an unknown op or via"),
            (in_flight[:-1], "record {0} never returned, but is not the thread's last"),
            ((ret < call) & ~in_flight, "record {0} returned before it was called"),
            (call[1:] < ret[:-1], "record {1} was called before record {0} returned"),
        ):
            if bad.any():
                index = int(np.argmax(bad))
                raise ConfigError(what.format(index, index + 1), where=where)


@dataclass(frozen=True)
class History:
    """Everything recorded in one run on one host."""

    flavour: str  # of the lock: a key of harness.model.lock.flavours.FLAVOURS
    release: tuple[int, int]  # of Xen: (4, 17)
    arch: str  # "x86_64" or "arm64"
    host: str
    threads: tuple[ThreadLog, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    # Names of the model's changed rules that held in this Xen; None: recorded before they were.
    rules: frozenset[str] | None = None

    @property
    def operations(self) -> int:
        """How many operations were recorded."""
        return sum(len(log.records) for log in self.threads)

    def validate(self) -> None:
        """Raise ConfigError, with the thread and the record, when this cannot be a history."""
        for name in META_DEFAULTS:
            if not 0 <= self.meta.get(name, 0) <= _LONGEST:
                raise ConfigError(f"{name} cannot be {self.meta[name]}")
        seen: set[tuple[int, int]] = set()
        for log in self.threads:
            log.validate()
            if (log.domid, log.thread) in seen:
                raise ConfigError(f"there are two logs of thread {log.name}")
            seen.add((log.domid, log.thread))

    @cached_property
    def columns(self) -> Columns:
        """All operations in the order of their calls."""
        return merge(self.threads)[0]

    def select(self, rows: Int64) -> History:
        """Return this history reduced to the operations ``rows`` (positions in ``columns``)."""
        keep = np.zeros(self.operations, bool)
        keep[rows] = True
        log = self.columns.log  # merged stably: each thread's own order is kept
        return replace(
            self,
            threads=tuple(
                replace(thread, records=thread.records[keep[log == index]])
                for index, thread in enumerate(self.threads)
            ),
        )


def merge(threads: tuple[ThreadLog, ...]) -> tuple[Columns, npt.NDArray[np.void]]:
    """Return all operations of ``threads`` in the order of their calls: as columns and records."""
    call = np.concatenate([log.call_ns() for log in threads] or [np.zeros(0, np.int64)])
    ret = np.concatenate([log.ret_ns() for log in threads] or [np.zeros(0, np.int64)])
    number = np.repeat(
        np.arange(len(threads), dtype=np.uint16), [len(log.records) for log in threads]
    )
    order = np.argsort(call, kind="stable")
    records = np.concatenate([log.records for log in threads] or [np.zeros(0, RECORD)])[order]
    names = ("op", "via", "port", "arg", "result", "cpu")
    fields = {name: np.ascontiguousarray(records[name]) for name in names}
    row = np.arange(len(order), dtype=np.int64)
    merged = Columns(row=row, log=number[order], call=call[order], ret=ret[order], **fields)
    return merged, records
