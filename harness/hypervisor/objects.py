# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies at an address of a running Xen: whose lock, of which port or which field.

The domains are walked from ``domain_list``; where the members of their structures are is DWARF's
to say, so that it holds for any release and configuration.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.hypervisor.dwarf.frames import Read
from harness.hypervisor.dwarf.types import Member, Record, record
from harness.hypervisor.symbols import symbols
from harness.verdict import HarnessError

_UNIT = "event_channel.c"  # sees struct domain, vcpu and evtchn
_FIFO_UNIT = "event_fifo.c"
_PAGE = 4096
_MOST_DOMAINS, _MOST_VCPUS = 64, 64


@dataclass(frozen=True)
class Named:
    """A place in memory, by the object that it belongs to."""

    domain: str = ""  # "d0", "d0v1"; "": a global's, or not known
    member: str = ""  # "event_lock", "heap_lock"; of a channel's lock "lock"
    port: int | None = None  # of a channel

    @property
    def text(self) -> str:
        """How it is told: "port 33 of d0", "d0's event_lock", "heap_lock"."""
        if self.port is not None:
            return f"port {self.port}{f' of {self.domain}' if self.domain else ''}"
        return f"{self.domain}'s {self.member}" if self.domain else self.member


@dataclass(frozen=True)
class Domain:
    """A domain's number and where its structure is."""

    number: int
    address: int


class Objects:
    """The objects of one running Xen, read when asked."""

    def __init__(self, elf: Path, read: Read) -> None:
        self._elf, self._read = elf, read

    def named(self, address: int) -> Named:
        """Return what is at ``address``; nothing known: an empty ``Named``."""
        try:
            return self._in_domains(address) or self._global(address) or Named()
        except (HarnessError, KeyError):
            return Named()

    def channel(self, address: int) -> Named:
        """Return which channel the ``struct evtchn`` at ``address`` is."""
        try:
            known = record(self._elf, "evtchn", _UNIT)
            port = self.number(address, known["port"])
        except (HarnessError, KeyError):
            return Named(member="lock")
        owner = next((d for d in self.domains() if self._bucket(d, port, address)), None)
        return Named(f"d{owner.number}" if owner is not None else "", "lock", port)

    def domain(self, address: int) -> str:
        """Return which domain the ``struct domain`` at ``address`` is; "" if it is none."""
        return next((f"d{one.number}" for one in self.domains() if one.address == address), "")

    def number(self, base: int, member: Member) -> int:
        """Return the number in ``member`` of the structure at ``base``."""
        bits = member.bits
        size = (sum(bits) + 7) // 8 if bits else member.size
        found = int.from_bytes(self._read(base + member.offset, size), "little")
        return found >> bits[0] & (1 << bits[1]) - 1 if bits else found

    def domains(self) -> tuple[Domain, ...]:
        """Return every domain that there is; none where memory cannot be read."""
        try:
            return self._domains
        except (HarnessError, KeyError):
            return ()

    @functools.cached_property
    def _domains(self) -> tuple[Domain, ...]:
        found = list[Domain]()
        known = self._domain
        at = self._word(symbols(self._elf)["domain_list"].address)
        while at and len(found) < _MOST_DOMAINS:
            found.append(Domain(self.number(at, known["domain_id"]), at))
            at = self._word(at + known["next_in_list"].offset)
        return tuple(found)

    def event_lock(self, domain: Domain) -> tuple[int, str]:
        """Return the address and the type of ``domain``'s event_lock."""
        member = self._domain["event_lock"]
        return domain.address + member.offset, member.type

    @property
    def _domain(self) -> Record:
        return record(self._elf, "domain", _UNIT)

    def _word(self, address: int) -> int:
        return int.from_bytes(self._read(address, 8), "little")

    def _global(self, address: int) -> Named | None:
        symbol = symbols(self._elf).at(address)
        return Named(member=symbol.name) if symbol is not None and not symbol.function else None

    def _in_domains(self, address: int) -> Named | None:
        for domain in self.domains():
            name = f"d{domain.number}"
            if found := _member(self._domain, domain.address, address):
                return Named(name, found)
            if found_channel := self._channel_around(domain, address):
                return found_channel
            for number, vcpu in self._vcpus(domain):
                if found := _member(record(self._elf, "vcpu", _UNIT), vcpu, address):
                    return Named(f"{name}v{number}", found)
                if found := self._queue(vcpu, address):
                    return Named(f"{name}v{number}", found)
        return None

    def _channel_around(self, domain: Domain, address: int) -> Named | None:
        """Return the channel of ``domain`` whose lock is at ``address``."""
        known = record(self._elf, "evtchn", _UNIT)
        start = address - known["lock"].offset
        try:
            port = self.number(start, known["port"])
        except HarnessError:
            return None
        if not self._bucket(domain, port, start):
            return None
        return Named(f"d{domain.number}", "lock", port)

    def _bucket(self, domain: Domain, port: int, address: int) -> bool:
        """Say whether ``domain``'s channel ``port`` is at ``address`` (_evtchn_from_port())."""
        size = 1 << (record(self._elf, "evtchn", _UNIT).size - 1).bit_length()
        per_bucket = _PAGE // size
        per_group = per_bucket * (_PAGE // 8)
        try:
            if port < per_bucket:
                bucket = self._word(domain.address + self._domain["evtchn"].offset)
            else:
                groups = domain.address + self._domain["evtchn_group"].offset
                group = self._word(groups + 8 * (port // per_group))
                bucket = self._word(group + 8 * (port % per_group // per_bucket)) if group else 0
        except (HarnessError, KeyError):
            return False
        stride = record(self._elf, "evtchn", _UNIT).size
        return bool(bucket) and bucket + port % per_bucket * stride == address

    def _vcpus(self, domain: Domain) -> Iterator[tuple[int, int]]:
        array = self._word(domain.address + self._domain["vcpu"].offset)
        count = self.number(domain.address, self._domain["max_vcpus"])
        for number in range(min(count, _MOST_VCPUS)):
            if vcpu := self._word(array + 8 * number):
                yield number, vcpu

    def _queue(self, vcpu: int, address: int) -> str:
        """Return which lock of the FIFO queues of ``vcpu`` is at ``address``; "": none."""
        try:
            known = record(self._elf, "evtchn_fifo_vcpu", _FIFO_UNIT)
            queue = known["queue"]
            base = self._word(vcpu + record(self._elf, "vcpu", _UNIT)["evtchn_fifo"].offset)
        except (HarnessError, KeyError):
            return ""
        inside = address - base - queue.offset
        if not base or not queue.element or not 0 <= inside < queue.size:
            return ""
        return f"FIFO queue {inside // queue.element} lock"


def _member(known: Record, base: int, address: int) -> str:
    """Return the member of a structure at ``base`` that begins at ``address`` or is around it."""
    inside = address - base
    if not 0 <= inside < known.size:
        return ""
    around = [m for m in known.members if m.offset <= inside < m.offset + m.size and not m.bits]
    locks = [m for m in around if m.type.endswith("lock_t")] or around
    return locks[-1].name if locks else ""
