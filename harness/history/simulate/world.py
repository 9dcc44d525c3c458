"""The event channels of a few simulated domains: what happens at one instant after the other.

Written from docs/spec/evtchn.md, sharing no code with the checker, and knowing what no
history shows: the instant at which each operation takes effect.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.history.history import DOMID_SELF
from harness.history.record import Op, Via
from harness.model.flavour import Flavour, Site

EINVAL, ENOENT, ESRCH, EEXIST, ENOTCONN = -22, -2, -3, -17, -107
FREE, UNBOUND, INTERDOMAIN, VIRQ, IPI = 0, 1, 2, 4, 5
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
    life: Life | None = None  # the port it met
    cpu: int = 0


@dataclass(eq=False)
class Life:
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
    peers: list[Life] = field(default_factory=list)  # all it was ever connected to
    closed: bool = False


@dataclass(eq=False)
class Dom:
    """A domain: its ports, and the queue that read() on /dev/xen/evtchn empties."""

    domid: int
    ports: dict[int, Life] = field(default_factory=dict)
    ring: deque[tuple[int, Life | None]] = field(default_factory=deque)
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
        self.spoil: Callable[[str, Life | None], bool] = lambda what, life: False
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
    ) -> Life:
        """Allocate the lowest free port of ``domid``."""
        dom = self.domains[domid]
        port = next(number for number in range(1, 1 << 17) if number not in dom.ports)
        life = Life(domid, port, kind, remote_dom, detail, vcpu)
        if call is None:
            life.kernel = True
        else:
            life.device = call.via is Via.DEVICE
            life.masked = not life.device
            life.changes.append(call)
            call.result, call.life = port, life
        dom.ports[port] = life
        dom.valid = max(dom.valid, (port // 64 + 1) * 64)
        return life

    def bind(self, call: Call) -> None:
        """EVTCHNOP_bind_interdomain."""
        remote = self.domains.get(self.resolve(call, call.arg))
        peer = remote.ports.get(call.port) if remote else None
        good = peer is not None and peer.kind == UNBOUND and peer.remote_dom == call.domid
        call.life = peer
        if good and self.spoil("bind refused", peer):
            good = False
        if peer and peer.kind == INTERDOMAIN and self.spoil("bound twice", peer):
            good = True
        if not good or peer is None:
            call.result = EINVAL if remote else ESRCH
            return
        life = self.open(call.domid, call, INTERDOMAIN, remote_dom=peer.domid, detail=peer.port)
        peer.kind, peer.remote_dom, peer.detail = INTERDOMAIN, call.domid, life.port
        peer.changes.append(call)
        life.peers.append(peer)
        peer.peers.append(life)
        life.causes.append(call)
        self.set_pending(life)

    def close(self, domid: int, port: int, call: Call | None) -> int:
        """EVTCHNOP_close; ``call`` is None when a kernel does it."""
        life = self.domains[domid].ports.get(port)
        if life is None:
            return EINVAL
        if call is not None:
            call.life = life
            life.changes.append(call)
            if life.kernel:
                self.double_closed.add((domid, port))
        peer = self.peer(life)
        if peer is not None and not self.spoil("peer not released", peer):
            peer.kind, peer.remote_dom, peer.detail = UNBOUND, domid, 0
            if call is not None:
                peer.changes.append(call)
        life.closed, life.pending = True, False
        del self.domains[domid].ports[port]
        return 0

    def peer(self, life: Life) -> Life | None:
        """Return the other end of an interdomain channel."""
        if life.kind != INTERDOMAIN:
            return None
        return self.domains[life.remote_dom].ports.get(life.detail)

    # -- events ----------------------------------------------------------------------------

    def set_pending(self, life: Life) -> None:
        """The event arrives at ``life``; Linux takes it a little later if it may."""
        life.pending = True
        if life.device and not life.masked:
            self.at(self.rng.randrange(200, 4000), lambda: self._upcall(life))

    def _upcall(self, life: Life) -> None:
        if life.pending and not life.masked and not life.closed:
            life.pending, life.masked, life.enabled = False, True, False
            self.queue(life.domid, life.port, life)

    def queue(self, domid: int, port: int, life: Life | None) -> None:
        """Put ``port`` where read() finds it."""
        dom = self.domains[domid]
        dom.ring.append((port, life))
        self.deliver(dom)

    def send(self, call: Call, life: Life | None) -> int:
        """EVTCHNOP_send."""
        if self.dropped(Site.SEND, call.domid, call.port):
            return 0
        if life is None or life.kind == VIRQ:
            return EINVAL
        target = self.peer(life) if life.kind == INTERDOMAIN else life if life.kind == IPI else None
        if target is not None and not self.spoil("send lost", target):
            target.causes.append(call)
            self.set_pending(target)
        return 0

    def unmask(self, call: Call, life: Life | None) -> int:
        """EVTCHNOP_unmask."""
        if call.port >= self.domains[call.domid].valid:
            return EINVAL
        if life and not self.dropped(Site.UNMASK, call.domid, call.port):
            life.masked = False
            if life.pending:
                self.set_pending(life)
        return 0

    def enable(self, call: Call, life: Life | None) -> int:
        """write() on /dev/xen/evtchn."""
        if life and life.device and not life.enabled:
            life.enabled = True
            if not self.spoil("unmask lost", life):
                return self.unmask(call, life)
        return 0

    # -- the rest --------------------------------------------------------------------------

    def apply(self, call: Call) -> None:
        """Let ``call`` (anything but RECV) take effect now."""
        life = self.domains[call.domid].ports.get(call.port)
        call.life = life
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
            case Op.CLOSE if call.via is Via.DEVICE and (life is None or not life.device):
                call.result = ENOTCONN
            case Op.CLOSE:
                call.result = self.close(call.domid, call.port, call)
            case Op.SEND if call.via is Via.DEVICE:
                call.result = 0 if life and life.device else ENOTCONN
                if call.result == 0:
                    self.send(call, life)
            case Op.SEND:
                call.result = self.send(call, life)
            case Op.STATUS:
                self.status(call, life)
            case Op.BIND_VCPU:
                movable = life is not None and self.movable(life)
                call.result = ENOENT if call.arg >= VCPUS else 0 if movable else EINVAL
                if life is not None and call.result == 0:
                    life.vcpu = call.arg
            case Op.UNMASK:
                call.result = self.unmask(call, life)
            case Op.ENABLE:
                call.result = self.enable(call, life)
            case Op.SET_PRIORITY:
                call.result = -38
            case Op.POLL:
                hidden = self.dropped(Site.POLL, call.domid, call.port)
                call.result = 0 if hidden or life is not None else EINVAL

    def bound(self, call: Call) -> bool:
        """Say whether the VIRQ has a port already (per-vCPU VIRQs: on that vCPU)."""
        same = [
            life
            for life in self.domains[call.domid].ports.values()
            if life.kind == VIRQ and not life.kernel and life.detail == call.port
        ]
        return any(call.port not in PER_VCPU or life.vcpu == call.arg for life in same)

    @staticmethod
    def movable(life: Life) -> bool:
        """Say whether EVTCHNOP_bind_vcpu may move the port: not IPIs, not per-vCPU VIRQs."""
        if life.kind == VIRQ:
            return life.detail not in PER_VCPU
        return life.kind in (UNBOUND, INTERDOMAIN)

    def status(self, call: Call, life: Life | None) -> None:
        """EVTCHNOP_status."""
        if call.port >= self.domains[call.domid].valid:
            call.result = EINVAL
        elif life is not None:
            remote = life.remote_dom if life.kind in (UNBOUND, INTERDOMAIN) else 0
            call.result = life.kind | life.vcpu << 8 | remote << 16
            call.arg = life.detail
