# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of event channels, as immutable and hashable values: ports, domains, a world.

A ``World`` may have whole domains, or only the ports of one component, such as the two ends of a
channel.  Such domains are marked ``partial``: they may have other ports, of which nothing is
known.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum, IntEnum

from harness.model.evtchn.changed import replace
from harness.model.evtchn.rules import BASE_RULES, Rules

BUCKET = 64  # ports by which valid_evtchns grows (EVTCHNS_PER_BUCKET)
WORDS_PER_PAGE = 1024  # ports one page of the FIFO event array holds
MAX_ARRAY_PAGES = 128
FIFO_LIMIT = MAX_ARRAY_PAGES * WORDS_PER_PAGE
NR_VIRQS = 24
PER_VCPU_VIRQS = frozenset({0, 1, 7, 13})  # TIMER, DEBUG, XENOPROF, XENPMU
VIRQ_DOM_EXC = 3
VIRQ_ARGO = 11
DEFAULT_PRIORITY = 7
LOWEST_PRIORITY = 15
INT_MAX = (1 << 31) - 1


class State(IntEnum):
    """evtchn->state."""

    FREE = 0
    RESERVED = 1
    UNBOUND = 2
    INTERDOMAIN = 3
    PIRQ = 4
    VIRQ = 5
    IPI = 6

    __hash__ = int.__hash__  # an enum's own hashes its name


class GuestKind(Enum):
    """Kind of guest."""

    PV = "pv"
    HVM = "hvm"  # and PVH
    ARM = "arm"
    SHIM = "shim"  # PV, inside xen-shim: see harness.model.evtchn.shim


@dataclass(frozen=True, slots=True)
class SharedBits:
    """The bits of one port in the memory that Xen shares with the guest."""

    pending: bool = False
    masked: bool = False
    linked: bool = False  # FIFO only


@dataclass(frozen=True, slots=True)
class Channel:
    """struct evtchn and the port's bits in shared memory."""

    state: State = State.FREE
    remote_dom: int = 0  # UNBOUND: who may bind; INTERDOMAIN: the peer
    remote_port: int = 0  # INTERDOMAIN
    number: int = 0  # VIRQ, PIRQ
    vcpu: int = 0  # notify_vcpu_id
    priority: int = DEFAULT_PRIORITY
    consumer: bool = False  # xen_consumer != 0
    saved: bool = False  # evtchn->pending: an event that came before its page; never cleared
    bits: SharedBits = SharedBits()  # 2L: shared_info
    word: SharedBits = SharedBits()  # FIFO: event array
    queue: tuple[int, int] | None = None  # FIFO: (vCPU, priority) of the queue it is linked on

    def __hash__(self) -> int:
        # A search hashes every port of many worlds: what tells channels apart, in one step.
        bits, word = self.bits, self.word
        shared = bits.pending, bits.masked, word.pending, word.masked
        return hash((self.state, self.remote_dom, self.remote_port, self.vcpu, self.saved, shared))

    @property
    def usable(self) -> bool:
        """evtchn_usable()."""
        return not self.consumer and self.state > State.RESERVED


FREE = Channel()
# setup_ports() gives the default priority to every port but this one, which nobody can bind.
PORT_0 = Channel(State.RESERVED, priority=0)


@dataclass(frozen=True, slots=True)
class Vcpu:
    """The part of a vCPU that event channels touch."""

    upcall: bool = False  # evtchn_upcall_pending
    selectors: frozenset[int] = frozenset()  # 2L: bits set in evtchn_pending_sel
    ready: frozenset[int] = frozenset()  # FIFO: priorities marked READY
    control_block: bool = False  # FIFO: it is mapped
    polling: tuple[int, ...] | None = None  # asleep in SCHEDOP_poll for these ports


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain.  ``with_port`` and ``with_vcpu`` return a changed copy."""

    domid: int
    kind: GuestKind = GuestKind.PV
    vcpus: tuple[Vcpu, ...] = (Vcpu(),)
    privileged: bool = False  # is_control_domain: may act on any domain
    target: int | None = None  # the one domain this stub domain may act on
    max_port: int = 1023  # max_evtchn_port: libxl's default; dom0 has INT_MAX
    limit_2l: int = 4096  # 1024 with x86's 32-bit shared info
    nr_pirqs: int = 256
    pirqs: frozenset[int] = frozenset()  # pirq_access_permitted
    paused: bool = False  # controller_pause_count != 0
    dying: bool = False
    resetting: bool = False  # a reset was preempted and is to be continued
    fifo: bool = False  # the ABI in use; else 2L
    fifo_built: bool = True  # CONFIG_EVTCHN_FIFO
    array_pages: int = 0  # of the FIFO event array, mapped
    valid: int = BUCKET  # valid_evtchns
    ports: tuple[tuple[int, Channel], ...] = ((0, PORT_0),)  # by number
    partial: bool = False  # only some ports are known, and not what the vCPUs' bits are
    untouched: Channel = FREE  # what every port is that is not in ``ports``

    def port(self, port: int) -> Channel:
        """Return the channel of ``port``; ``untouched`` if it is not in ``ports``."""
        at = bisect_left(self.ports, (port,))
        if at < len(self.ports) and self.ports[at][0] == port:
            return self.ports[at][1]
        return self.untouched

    def with_port(self, port: int, channel: Channel) -> Domain:
        """Return a copy in which ``port`` is ``channel``."""
        at = bisect_left(self.ports, (port,))
        after = self.ports[at:]
        if after and after[0][0] == port:
            after = after[1:]
        here = ((port, channel),) if channel != self.untouched else ()
        return replace(self, ports=(*self.ports[:at], *here, *after))

    def with_vcpu(self, number: int, vcpu: Vcpu) -> Domain:
        """Return a copy in which vCPU ``number`` is ``vcpu``."""
        return replace(self, vcpus=(*self.vcpus[:number], vcpu, *self.vcpus[number + 1 :]))

    @property
    def limit(self) -> int:
        """max_evtchns(): how many ports the ABI in use can have."""
        return FIFO_LIMIT if self.fifo else self.limit_2l

    def has_word(self, port: int) -> bool:
        """Say whether the event array has a page for ``port`` (FIFO)."""
        return port < self.array_pages * WORDS_PER_PAGE

    def pending(self, port: int) -> bool:
        """evtchn_port_is_pending()."""
        channel = self.port(port)
        if self.fifo:
            return self.has_word(port) and channel.word.pending
        return channel.bits.pending

    def masked(self, port: int) -> bool:
        """evtchn_port_is_masked()."""
        channel = self.port(port)
        if self.fifo:
            return not self.has_word(port) or channel.word.masked
        return channel.bits.masked


@dataclass(frozen=True, slots=True)
class World:
    """All domains, as far as a prediction needs them.  A domid that is not here does not exist."""

    domains: tuple[Domain, ...]
    rules: Rules = BASE_RULES
    scarce: bool = False  # Xen's heap may be exhausted: ENOMEM is an answer that is allowed
    virq_handler: int = 0  # domid of the handler of global VIRQs

    def domain(self, domid: int) -> Domain | None:
        """Return the domain, or None (ESRCH)."""
        for domain in self.domains:
            if domain.domid == domid:
                return domain
        return None

    def with_domain(self, changed: Domain) -> World:
        """Return a copy in which the domain of that domid is ``changed``."""
        domains = tuple([changed if d.domid == changed.domid else d for d in self.domains])
        return World(domains, self.rules, self.scarce, self.virq_handler)


def global_virq(virq: int) -> bool:
    """virq_is_global(); and the VIRQs of 4.21's per-domain class, which are bound the same way."""
    return virq not in PER_VCPU_VIRQS
