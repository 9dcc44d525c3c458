# SPDX-License-Identifier: GPL-2.0-or-later
"""What the simulated threads do: as the real agents under load, on so few ports that they race."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field

from harness.history.format.record import Op, Via
from harness.history.simulate.world import VCPUS, Call
from harness.model.evtchn.abi import DOMID_SELF

Thread = Generator[Call, Call, None]


@dataclass
class Shared:
    """What the threads of one domain know; numbers may be stale, as in a real race."""

    domid: int
    slots: list[int] = field(default_factory=list)  # raw ports
    bound: list[int] = field(default_factory=list)  # device ports bound to another domain
    served: dict[int, list[int]] = field(default_factory=dict)  # by domid that may bind


@dataclass
class Load:
    """The state of one simulated run."""

    rng: random.Random
    domains: dict[int, Shared]
    left: int  # operations still to start
    most: int = 6  # slots per domain

    def worker(self, me: Shared) -> Thread:
        """Race on shared raw ports, and serve and bind device ports, until the load is over."""
        rng = self.rng
        while self.left > 0:
            self.left -= 1
            roll = rng.random()
            if roll < 0.65:
                yield from self._raw(me)
            elif roll < 0.75:
                yield from self._serve(me)
            else:
                yield from self._client(me)

    def receiver(self, me: Shared) -> Thread:
        """Read events and write them back, for ever (the run ends it)."""
        while True:
            got = yield Call(me.domid, Op.RECV, Via.DEVICE)
            if self.rng.random() < 0.98:
                yield Call(me.domid, Op.ENABLE, Via.DEVICE, got.port)

    def teardown(self, me: Shared, left: dict[int, Via]) -> Thread:
        """Close every port that is still open."""
        for port, via in left.items():
            yield Call(me.domid, Op.CLOSE, via, port)

    def _raw(self, me: Shared) -> Thread:
        rng = self.rng
        if len(me.slots) < 2 or (len(me.slots) < self.most and rng.random() < 0.2):
            roll = rng.random()
            if me.slots and roll < 0.55:
                port = rng.choice(me.slots)
                got = yield Call(me.domid, Op.BIND_INTERDOMAIN, Via.RAW, port, me.domid)
            elif roll < 0.9:
                got = yield Call(me.domid, Op.ALLOC_UNBOUND, Via.RAW, DOMID_SELF, me.domid)
            elif roll < 0.95:
                got = yield Call(me.domid, Op.BIND_IPI, Via.RAW, 0, rng.randrange(VCPUS))
            else:
                got = yield Call(me.domid, Op.BIND_VIRQ, Via.RAW, rng.choice([0, 3, 7, 8]), 0)
            if got.result > 0:
                me.slots.append(got.result)
            return
        port = rng.choice(me.slots)
        op = rng.choices(
            [Op.SEND, Op.STATUS, Op.POLL, Op.UNMASK, Op.BIND_VCPU, Op.SET_PRIORITY, Op.CLOSE],
            [40, 25, 10, 6, 6, 2, 18],
        )[0]
        arg = {Op.POLL: rng.choice([50, 200]), Op.BIND_VCPU: rng.randrange(VCPUS + 1)}.get(op, 0)
        got = yield Call(me.domid, op, Via.RAW, port, arg)
        if op is Op.CLOSE and port in me.slots and rng.random() < 0.9:  # else: stale
            me.slots.remove(port)

    def _serve(self, me: Shared) -> Thread:
        rng = self.rng
        remote = rng.choice(list(self.domains))
        mine = me.served.setdefault(remote, [])
        if len(mine) < 2:
            got = yield Call(me.domid, Op.ALLOC_UNBOUND, Via.DEVICE, DOMID_SELF, remote)
            mine.append(got.result)
        elif rng.random() < 0.1:
            port = mine.pop(rng.randrange(len(mine)))
            yield Call(me.domid, Op.CLOSE, Via.DEVICE, port)
        else:
            yield Call(me.domid, Op.SEND, rng.choice([Via.RAW, Via.DEVICE]), rng.choice(mine))

    def _client(self, me: Shared) -> Thread:
        rng = self.rng
        if len(me.bound) < 2:
            server = self.domains[rng.choice(list(self.domains))]
            offers = server.served.get(me.domid)
            if not offers:
                return
            port = rng.choice(offers)
            got = yield Call(me.domid, Op.BIND_INTERDOMAIN, Via.DEVICE, port, server.domid)
            if got.result > 0:
                me.bound.append(got.result)
            return
        port = rng.choice(me.bound)
        if rng.random() < 0.12:
            yield Call(me.domid, Op.CLOSE, Via.DEVICE, port)
            if port in me.bound:
                me.bound.remove(port)
            return
        for _ in range(rng.randrange(1, 4)):
            yield Call(me.domid, Op.SEND, rng.choice([Via.RAW, Via.DEVICE]), port)
