# SPDX-License-Identifier: GPL-2.0-or-later
"""The event channels of a few simulated domains: what happens at one instant after the other.

Written from docs/spec/evtchn.md, sharing no code with the checker, and knowing what no
history shows: the instant at which each operation takes effect.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import DOMID_SELF, ChannelState
from harness.model.lock.flavours import Flavour, Site

EINVAL, ENOENT, ESRCH, EEXIST, ENOTCONN = -22, -2, -3, -17, -107
FREE, UNBOUND, INTERDOMAIN, VIRQ, IPI = (
    int(state)
    for state in (
        ChannelState.CLOSED,
        ChannelState.UNBOUND,
        ChannelState.INTERDOMAIN,
        ChannelState.VIRQ,
        ChannelState.IPI,
    )
)
VCPUS = 4
PER_VCPU = (0, 1, 7, 13)  # VIRQs: TIMER, DEBUG, XENOPROF, XENPMU


@dataclass(eq=False)
class Call:
    """One operation on its way: ``called`` and ``returned`` are true times (ns)."""

    domid: int
    op: Op
    via: Via
    port: int = 0
    arg: int = 0
    called: int = 0
    returned: int | None = None
    result: int = 0
    lifetime: Lifetime | None = None  # the port it met
    cpu: int = 0


@dataclass(eq=False)
class Lifetime:
    """One port from its allocation to its close."""

    domid: int
    port: int
    kind: int
    remote_dom: int = 0
    detail: int = 0  # remote port, or VIRQ
    vcpu: int = 0
    device: bool = False  # an agent's, through /dev/xen/evtchn
    kernel: bool = False
    pending: bool = False
    masked: bool = True
    enabled: bool = True  # Linux's flag: false between a delivery and its ENABLE
    changes: list[Call] = field(default_factory=list)  # operations that changed it
    causes: list[Call] = field(default_factory=list)  # operations that set it pending
    received: list[Call] = field(default_factory=list)
    peers: list[Lifetime] = field(default_factory=list)  # all it was ever connected to
    closed: bool = False


@dataclass(eq=False)
class Dom:
    """A domain: its ports, and the queue that read() on /dev/xen/evtchn empties."""

    domid: int
    ports: dict[int, Lifetime] = field(default_factory=dict)
    ring: deque[tuple[int, Lifetime | None]] = field(default_factory=deque)
    valid: int = 64


class World:
    """All domains; ``at(delay, action)`` lets something happen later."""

    def __init__(
        self,
        flavour: Flavour,
        domids: list[int],
        rng: random.Random,
        at: Callable[[int, Callable[[], None]], None],
        deliver: Callable[[Dom], None],
    ) -> None:
        self.flavour = flavour
        self.domains = {domid: Dom(domid) for domid in domids}
        self.rng = rng
        self.at = at
        self.deliver = deliver
        self.inside: dict[tuple[int, int], int] = {}  # port: how many writers hold its lock
        self.goes_wrong: Callable[[str, Lifetime | None], bool] = lambda what, lifetime: False
        self.double_closed: set[tuple[int, int]] = set()

    def resolve(self, call: Call, domid: int) -> int:
        """Return the domid that ``domid`` means to the caller."""
        return call.domid if domid == DOMID_SELF else domid

    def write(self, domid: int, port: int, hold: int) -> None:
        """A writer is inside the lock of ``port`` for the next ``hold`` ns."""
        key = (domid, port)
        self.inside[key] = self.inside.get(key, 0) + 1
        self.at(hold, lambda: self._leave(key))

    def _leave(self, key: tuple[int, int]) -> None:
        self.inside[key] -= 1
        if not self.inside[key]:
            del self.inside[key]

    def dropped(self, site: Site, domid: int, port: int) -> bool:
        """Say whether ``site`` now fails to get the lock and does nothing."""
        held = (domid, port) in self.inside
        return held and self.flavour.may_drop(site) and self.rng.random() < 0.7

    # -- allocation ------------------------------------------------------------------------

    def open(
        self,
        domid: int,
        call: Call | None,
        kind: int,
        *,
        remote_dom: int = 0,
        detail: int = 0,
        vcpu: int = 0,
    ) -> Lifetime:
        """Allocate the lowest free port of ``domid``."""
        dom = self.domains[domid]
        port = next(number for number in range(1, 1 << 17) if number not in dom.ports)
        lifetime = Lifetime(domid, port, kind, remote_dom, detail, vcpu)
        if call is None:
            lifetime.kernel = True
        else:
            lifetime.device = call.via is Via.DEVICE
            lifetime.masked = not lifetime.device
            lifetime.changes.append(call)
            call.result, call.lifetime = port, lifetime
        dom.ports[port] = lifetime
        dom.valid = max(dom.valid, (port // 64 + 1) * 64)
        return lifetime

    def bind(self, call: Call) -> None:
        """EVTCHNOP_bind_interdomain."""
        remote = self.domains.get(self.resolve(call, call.arg))
        peer = remote.ports.get(call.port) if remote else None
        good = peer is not None and peer.kind == UNBOUND and peer.remote_dom == call.domid
        call.lifetime = peer
        if good and self.goes_wrong("bind refused", peer):
            good = False
        if peer and peer.kind == INTERDOMAIN and self.goes_wrong("bound twice", peer):
            good = True
        if not good or peer is None:
            call.result = EINVAL if remote else ESRCH
            return
        lifetime = self.open(call.domid, call, INTERDOMAIN, remote_dom=peer.domid, detail=peer.port)
        peer.kind, peer.remote_dom, peer.detail = INTERDOMAIN, call.domid, lifetime.port
        peer.changes.append(call)
        lifetime.peers.append(peer)
        peer.peers.append(lifetime)
        lifetime.causes.append(call)
        self.set_pending(lifetime)

    def close(self, domid: int, port: int, call: Call | None) -> int:
        """EVTCHNOP_close; ``call`` is None when a kernel does it."""
        lifetime = self.domains[domid].ports.get(port)
        if lifetime is None:
            return EINVAL
        if call is not None:
            call.lifetime = lifetime
            lifetime.changes.append(call)
            if lifetime.kernel:
                self.double_closed.add((domid, port))
        peer = self.peer(lifetime)
        if peer is not None and not self.goes_wrong("peer not released", peer):
            peer.kind, peer.remote_dom, peer.detail = UNBOUND, domid, 0
            if call is not None:
                peer.changes.append(call)
        lifetime.closed, lifetime.pending = True, False
        del self.domains[domid].ports[port]
        return 0

    def peer(self, lifetime: Lifetime) -> Lifetime | None:
        """Return the other end of an interdomain channel."""
        if lifetime.kind != INTERDOMAIN:
            return None
        return self.domains[lifetime.remote_dom].ports.get(lifetime.detail)

    # -- events ----------------------------------------------------------------------------

    def set_pending(self, lifetime: Lifetime) -> None:
        """The event arrives at ``lifetime``; Linux takes it a little later if it may."""
        lifetime.pending = True
        if lifetime.device and not lifetime.masked:
            self.at(self.rng.randrange(200, 4000), lambda: self._upcall(lifetime))

    def _upcall(self, lifetime: Lifetime) -> None:
        if lifetime.pending and not lifetime.masked and not lifetime.closed:
            lifetime.pending, lifetime.masked, lifetime.enabled = False, True, False
            self.queue(lifetime.domid, lifetime.port, lifetime)

    def queue(self, domid: int, port: int, lifetime: Lifetime | None) -> None:
        """Put ``port`` where read() finds it."""
        dom = self.domains[domid]
        dom.ring.append((port, lifetime))
        self.deliver(dom)

    def send(self, call: Call, lifetime: Lifetime | None) -> int:
        """EVTCHNOP_send."""
        if self.dropped(Site.SEND, call.domid, call.port):
            return 0
        if lifetime is None or lifetime.kind == VIRQ:
            return EINVAL
        target = lifetime if lifetime.kind == IPI else self.peer(lifetime)
        if target is not None and not self.goes_wrong("send lost", target):
            target.causes.append(call)
            self.set_pending(target)
        return 0

    def unmask(self, call: Call, lifetime: Lifetime | None) -> int:
        """EVTCHNOP_unmask."""
        if call.port >= self.domains[call.domid].valid:
            return EINVAL
        if lifetime and not self.dropped(Site.UNMASK, call.domid, call.port):
            lifetime.masked = False
            if lifetime.pending:
                self.set_pending(lifetime)
        return 0

    def enable(self, call: Call, lifetime: Lifetime | None) -> int:
        """write() on /dev/xen/evtchn."""
        if lifetime and lifetime.device and not lifetime.enabled:
            lifetime.enabled = True
            if not self.goes_wrong("unmask lost", lifetime):
                return self.unmask(call, lifetime)
        return 0

    # -- the rest --------------------------------------------------------------------------

    def apply(self, call: Call) -> None:
        """Let ``call`` (anything but RECV) take effect now."""
        lifetime = self.domains[call.domid].ports.get(call.port)
        call.lifetime = lifetime
        match call.op:
            case Op.ALLOC_UNBOUND:
                owner, remote = self.resolve(call, call.port), self.resolve(call, call.arg)
                self.open(owner, call, UNBOUND, remote_dom=remote)
            case Op.BIND_INTERDOMAIN:
                self.bind(call)
            case Op.BIND_VIRQ if self.bound(call):
                call.result = EEXIST
            case Op.BIND_VIRQ:
                self.open(call.domid, call, VIRQ, detail=call.port, vcpu=call.arg)
            case Op.BIND_IPI:
                self.open(call.domid, call, IPI, vcpu=call.arg)
            case Op.CLOSE if call.via is Via.DEVICE and (lifetime is None or not lifetime.device):
                call.result = ENOTCONN
            case Op.CLOSE:
                call.result = self.close(call.domid, call.port, call)
            case Op.SEND if call.via is Via.DEVICE:
                call.result = 0 if lifetime and lifetime.device else ENOTCONN
                if call.result == 0:
                    self.send(call, lifetime)
            case Op.SEND:
                call.result = self.send(call, lifetime)
            case Op.STATUS:
                self.status(call, lifetime)
            case Op.BIND_VCPU:
                movable = lifetime is not None and self.movable(lifetime)
                call.result = ENOENT if call.arg >= VCPUS else 0 if movable else EINVAL
                if lifetime is not None and call.result == 0:
                    lifetime.vcpu = call.arg
            case Op.UNMASK:
                call.result = self.unmask(call, lifetime)
            case Op.ENABLE:
                call.result = self.enable(call, lifetime)
            case Op.SET_PRIORITY:
                call.result = -38
            case Op.POLL:
                hidden = self.dropped(Site.POLL, call.domid, call.port)
                call.result = 0 if hidden or lifetime is not None else EINVAL

    def bound(self, call: Call) -> bool:
        """Say whether the VIRQ has a port already (per-vCPU VIRQs: on that vCPU)."""
        same = [
            lifetime
            for lifetime in self.domains[call.domid].ports.values()
            if lifetime.kind == VIRQ and not lifetime.kernel and lifetime.detail == call.port
        ]
        return any(call.port not in PER_VCPU or lifetime.vcpu == call.arg for lifetime in same)

    @staticmethod
    def movable(lifetime: Lifetime) -> bool:
        """Say whether EVTCHNOP_bind_vcpu may move the port: not IPIs, not per-vCPU VIRQs."""
        if lifetime.kind == VIRQ:
            return lifetime.detail not in PER_VCPU
        return lifetime.kind in (UNBOUND, INTERDOMAIN)

    def status(self, call: Call, lifetime: Lifetime | None) -> None:
        """EVTCHNOP_status."""
        if call.port >= self.domains[call.domid].valid:
            call.result = EINVAL
        elif lifetime is not None:
            remote = lifetime.remote_dom if lifetime.kind in (UNBOUND, INTERDOMAIN) else 0
            call.result = lifetime.kind | lifetime.vcpu << 8 | remote << 16
            call.arg = lifetime.detail
