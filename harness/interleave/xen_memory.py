# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads one domain's event channels in the memory of a halted Xen."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.hypervisor.layout import fields
from harness.hypervisor.locks import Kind, event_lock_kind
from harness.hypervisor.rwlock_word import RwlockWord
from harness.hypervisor.symbols import symbols
from harness.verdict import LabError

Read = Callable[[int, int], bytes]  # (address, size)
Write = Callable[[int, bytes], None]

# xen/include/xen/sched.h: a bucket is a page of channels, a group a page of pointers to buckets.
_BUCKET, _CHANNEL, _GROUP, _POINTER = 64, 64, 512, 8
# The FIFO ABI's event words (docs/misc and xen/include/public/event_channel.h).
_PENDING, _MASKED, _WORDS = 31, 30, 1024
_HALF = 0xFFFF  # in a ticket lock's word, the low half is the head, the high half the tail


@dataclass(frozen=True)
class LockWords:
    """Addresses of the lock words of one channel, by the model's names."""

    addresses: Mapping[str, int]

    def at(self, address: int) -> str | None:
        """Return the name of the word at ``address``; None if there is none."""
        return next((word for word, at in self.addresses.items() if at == address), None)


@dataclass(frozen=True)
class VariableReader:
    """Reads the variables of a scenario; where they are in memory was found before."""

    read: Read
    cells: tuple[tuple[str, int, int, Callable[[int], int]], ...]  # name, address, size, decode

    def values(self) -> dict[str, int]:
        """Return the present values, by the model's names."""
        data: dict[tuple[int, int], int] = {}
        values = {}
        for name, address, size, decode in self.cells:
            cell = address, size
            if cell not in data:
                data[cell] = int.from_bytes(self.read(address, size), "little")
            values[name] = decode(data[cell])
        return values


class ChannelMemory:
    """One domain's event channels in the memory of a Xen whose symbols are in ``syms``.

    ``design``: the kind of the channel's lock: counter, counter-v2, rwlock or spinlock.
    ``layout``: of the word of this Xen's rwlocks.
    """

    def __init__(
        self,
        syms: Path,
        design: str,
        layout: RwlockWord,
        read: Read,
        write: Write,
        domid: int = 0,
    ) -> None:
        self._syms = syms
        self._layout = layout
        self._event_lock = event_lock_kind(syms)
        self._design = design
        self._read = read
        self._write = write
        self._domain = self._find(domid)
        self._channels: dict[int, int] = {}

    def channel(self, port: int) -> int:
        """Return the address of the ``struct evtchn`` of ``port``, which stays the same."""
        if port not in self._channels:
            self._channels[port] = self._channel(port)
        return self._channels[port]

    def knows(self, port: int) -> bool:
        """Return whether ``channel`` and ``words`` of ``port`` need not read the memory."""
        return port in self._channels

    def _channel(self, port: int) -> int:
        if port < _BUCKET:
            return self._pointer(self.member("evtchn")) + port * _CHANNEL
        bucket = port // _BUCKET % _GROUP
        buckets = self._pointer(self.group(port))
        return self._pointer(buckets + bucket * _POINTER) + port % _BUCKET * _CHANNEL

    def group(self, port: int) -> int:
        """Return the address of the pointer to the group of buckets of ``port``."""
        return self.member("evtchn_group") + port // _BUCKET // _GROUP * _POINTER

    def valid_ports(self) -> int:
        """Return the domain's ``valid_evtchns``: ports below it have a ``struct evtchn``."""
        return self._number(self.member("valid_evtchns"), 4)

    def polled_port(self, vcpu: int) -> int:
        """Return ``poll_evtchn`` of a vCPU: the port in whose poll it sleeps; -1: of several."""
        offset, size = fields(self._syms, "vcpu")["poll_evtchn"]
        return _signed(self._number(self._vcpu(vcpu) + offset, size))

    def first_head(self, vcpu: int) -> int:
        """Return the address of the pointer to the head of a vCPU's queue of priority 0, in a
        domain that uses the FIFO ABI (``evtchn_fifo->queue[0].head`` of its ``struct vcpu``)."""
        at = self._pointer(self._vcpu(vcpu) + fields(self._syms, "vcpu")["evtchn_fifo"][0])
        queues = fields(self._syms, "evtchn_fifo_vcpu", "event_fifo.c")["queue"][0]
        return at + queues + fields(self._syms, "evtchn_fifo_queue", "event_fifo.c")["head"][0]

    def _vcpu(self, number: int) -> int:
        return self._pointer(self._pointer(self.member("vcpu")) + number * _POINTER)

    def member(self, name: str) -> int:
        """Return the address of a member of the domain's ``struct domain``."""
        return self._domain + fields(self._syms, "domain")[name][0]

    def words(self, port: int) -> LockWords:
        """Return the addresses of the lock words of ``port``."""
        lock = self.channel(port) + fields(self._syms, "evtchn")["lock"][0]
        event_lock = self._domain + fields(self._syms, "domain")["event_lock"][0]
        if self._design == "rwlock":
            queue = fields(self._syms, "rwlock_t")["lock"][0]
            return LockWords({"cnts": lock, "qlock": lock + queue, "elock": event_lock})
        own = "lock" if self._design == "spinlock" else "L"
        return LockWords({own: lock, "elock": event_lock})

    def variable_reader(
        self, port: int, names: Container[str], pending: int = 0, tickets: int = 1
    ) -> VariableReader:
        """Return a reader of those of the model's variables ``names`` that are in Xen's memory.

        ``port``: whose lock is under test; ``pending``: whose pending bit is read.  Head and tail
        of a ticket lock count from their present values, modulo ``tickets``.
        """
        offset, size = fields(self._syms, "evtchn")["state"]
        cells = [
            *self._lock_cells(self.words(port), tickets),
            ("state", self.channel(port) + offset, size, _plain),
        ]
        if "mask" in names:
            cells.append(("mask", self.word(port), 4, _bit(_MASKED)))
        if "pending" in names:
            cells.append(("pending", self.word(pending or port), 4, _bit(_PENDING)))
        return VariableReader(self._read, tuple(cell for cell in cells if cell[0] in names))

    def _lock_cells(
        self, words: LockWords, tickets: int
    ) -> Iterator[tuple[str, int, int, Callable[[int], int]]]:
        at = words.addresses
        yield "elock", at["elock"], 4, self._event_lock_taken
        if "L" in at:
            yield "L", at["L"], 4, _signed
        if "cnts" in at:
            yield "wmode", at["cnts"], 4, self._layout.mode
            yield "readers", at["cnts"], 4, self._layout.count
            yield "qlock", at["qlock"], 4, _taken
        if "lock" in at:
            now = self._number(at["lock"], 4)
            yield "lock_head", at["lock"], 4, lambda value: (value - now & _HALF) % tickets
            yield "lock_tail", at["lock"], 4, lambda value: ((value >> 16) - (now >> 16)) % tickets

    def _event_lock_taken(self, value: int) -> int:
        """Return 1 if somebody holds the domain's event_lock for writing."""
        if self._event_lock is Kind.RWLOCK:
            return int(self._layout.mode(value) == 3)
        return _taken(value)

    def word(self, port: int) -> int:
        """Return the address of the guest's event word of ``port``."""
        at = self._pointer(self._domain + fields(self._syms, "domain")["evtchn_fifo"][0])
        if not at:
            raise LabError("does not use the FIFO ABI", where="the domain under test")
        array = fields(self._syms, "evtchn_fifo_domain", "event_fifo.c")["event_array"][0]
        page, index = divmod(port, _WORDS)
        return self._pointer(at + array + page * _POINTER) + index * 4

    def mask(self, port: int) -> None:
        """Set the guest's mask bit of ``port``, as its kernel does for unused ports."""
        at = self.word(port)
        self._write(at, (self._number(at, 4) | 1 << _MASKED).to_bytes(4, "little"))

    def _find(self, domid: int) -> int:
        domain = fields(self._syms, "domain")
        at = self._pointer(symbols(self._syms)["domain_list"].address)
        while at:
            if self._number(at + domain["domain_id"][0], 2) == domid:
                return at
            at = self._pointer(at + domain["next_in_list"][0])
        raise LabError(f"no domain {domid} in Xen's list", where="domain_list")

    def _pointer(self, address: int) -> int:
        return self._number(address, _POINTER)

    def _number(self, address: int, size: int) -> int:
        return int.from_bytes(self._read(address, size), "little")


def _plain(value: int) -> int:
    return value


def _signed(value: int) -> int:
    return value - (value >> 31 << 32)


def _bit(number: int) -> Callable[[int], int]:
    return lambda value: value >> number & 1


def _taken(value: int) -> int:
    """Return 1 if somebody holds a ticket lock: its head is not its tail."""
    return int(value & 0xFFFF != value >> 16)
