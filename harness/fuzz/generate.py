# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programmes: the same seed makes the same, whatever the Xen, its domid and its answers.

A programme does not know which ports it will be given: it names them by the slots that they are
kept in.  So nothing of the model is needed here, and a step that is left out leaves the others
their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from harness.fuzz.programme import Bit, Flag, Step, What
from harness.model.evtchn.abi import DOMID_SELF

_NOBODY = 0x7FEF
_SHORT, _LONG = 60, 400  # steps
_SLOTS = 250
_FEW, _MANY = 20, 90  # ports at a time; more than 64 make Xen allocate another bucket
# One programme of so many is long, begins with FIFO, has many ports.
_LONG_ONES, _FIFO_ONES, _CROWDED_ONES = 4, 2, 32
_LOWEST_EVTCHNOP = 15  # that no Xen knows
# Ports on every border: what is reserved, the first bucket and the ones after it, libxl's default
# limit, the limits of the ABIs, and what no port can be.
_BORDERS = (
    *(0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 1022, 1023, 1024),
    *(4095, 4096, 131071, 131072, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF),
)
_VCPUS = (0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 2, 3, 0x7FFFFFFF, 0xFFFFFFFF)
_OFFSETS = (0, 0, 0, 0, 0, 8, 64, 4024, 4, 1, 4032, 0xFFFFFFF8)  # of a control block in its page


class _Writer:
    """Writes one programme; keeps which slots have a port, as far as that can be known here."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.steps: list[Step] = []
        self._open: list[int] = []  # slots
        self._closed: list[int] = []
        self._next = 0
        self._made = 0
        self._faulty = not chance.getrandbits(3)
        self._most = _MANY if chance.randrange(_CROWDED_ONES) == 0 else _FEW

    def add(self, what: What, flags: int = 0, **rest: int) -> None:
        self.steps.append(Step(int(what), int(flags), **rest))

    def write(self) -> list[Step]:
        """Return the programme."""
        chance = self._chance
        self.add(What.BEGIN)
        longest = _LONG if chance.randrange(_LONG_ONES) == 0 or self._most == _MANY else _SHORT
        if chance.randrange(_FIFO_ONES) == 0:
            self._to_fifo()
        for _ in range(chance.randint(1, longest)):
            bits = chance.getrandbits(48)
            _STEPS[bits & 255](self, bits >> 8)
        self._look_at_all()
        return self.steps

    def _to_fifo(self) -> None:
        for vcpu in range(1 + self._chance.getrandbits(1)):
            self.add(What.INIT_CONTROL, number=vcpu)
        bits = self._chance.getrandbits(4)
        if bits & 3:
            self.add(What.EXPAND_ARRAY)
        if bits & 12:  # events that Xen has saved, from before the reset
            self.add(What.TAKE, number=0)
            self.add(What.TAKE, number=1)

    def _look_at_all(self) -> None:
        """The final state: status and bits of every port that there can be, and of one more."""
        for port in range(self._made + 2):
            self.add(What.STATUS, port=port, value=DOMID_SELF)

    # -- operands: each takes the bits that it needs from ``bits`` ----------------------------

    def _port(self, bits: int) -> tuple[int, int]:
        """Return a flag and a port: one that is open, one that was closed, or a border."""
        which, pick = bits & 31, bits >> 5
        if which < 24 and self._open:
            return Flag.PORT_OF_SLOT, self._open[pick % len(self._open)]
        if which < 28 and self._closed:
            return Flag.PORT_OF_SLOT, self._closed[pick % len(self._closed)]
        return 0, _BORDERS[pick % len(_BORDERS)]

    def _opened(self) -> int:
        """Return the slot for a new port."""
        slot = 1 + self._next % _SLOTS
        self._next += 1
        self._made += 1
        if slot in self._closed:
            self._closed.remove(slot)
        self._open.append(slot)
        return slot

    def _fault(self, bits: int) -> int:
        if not self._faulty or bits & 15:
            return 0
        return Flag.FAULT_OUT if bits & 16 else Flag.FAULT_IN

    # -- the steps --------------------------------------------------------------------------

    def alloc(self, bits: int) -> None:
        if len(self._open) >= self._most:
            return self.close(bits)
        owner = _NOBODY if bits & 63 == 63 else DOMID_SELF
        remote = (DOMID_SELF, DOMID_SELF, DOMID_SELF, DOMID_SELF, DOMID_SELF, DOMID_SELF, 0,
                  _NOBODY)[bits >> 6 & 7]  # fmt: skip
        flags = self._fault(bits >> 9)
        self.add(What.ALLOC_UNBOUND, flags, slot=self._opened(), port=owner, value=remote)

    def bind_interdomain(self, bits: int) -> None:
        if len(self._open) >= self._most:
            return self.close(bits)
        remote = _NOBODY if bits & 31 == 31 else DOMID_SELF
        flag, port = self._port(bits >> 5)
        flags = flag | self._fault(bits >> 20)
        self.add(What.BIND_INTERDOMAIN, flags, slot=self._opened(), port=port, value=remote)

    def pair(self, bits: int) -> None:
        """An unbound port, and at once a channel to it."""
        if len(self._open) + 1 >= self._most:
            return self.close(bits)
        far = self._opened()
        self.add(What.ALLOC_UNBOUND, slot=far, port=DOMID_SELF, value=DOMID_SELF)
        near = self._opened()
        flag = Flag.PORT_OF_SLOT
        self.add(What.BIND_INTERDOMAIN, flag, slot=near, port=far, value=DOMID_SELF)

    def bind_virq(self, bits: int) -> None:
        if len(self._open) >= self._most:
            return self.close(bits)
        virq = bits % 26 if bits >> 5 & 31 else 0xFFFFFFFF
        vcpu = 0 if bits >> 10 & 1 else _VCPUS[bits >> 11 & 15]
        flags = self._fault(bits >> 15)
        self.add(What.BIND_VIRQ, flags, slot=self._opened(), port=virq, value=vcpu)

    def bind_ipi(self, bits: int) -> None:
        if len(self._open) >= self._most:
            return self.close(bits)
        flags = self._fault(bits >> 4)
        self.add(What.BIND_IPI, flags, slot=self._opened(), value=_VCPUS[bits & 15])

    def close(self, bits: int) -> None:
        flag, port = self._port(bits)
        if flag and port in self._open:
            self._open.remove(port)
            self._closed.append(port)
        self.add(What.CLOSE, flag | self._fault(bits >> 20), port=port)

    def send(self, bits: int) -> None:
        flag, port = self._port(bits)
        self.add(What.SEND, flag | self._fault(bits >> 20), port=port)

    def status(self, bits: int) -> None:
        flag, port = self._port(bits)
        owner = _NOBODY if bits >> 20 & 15 == 15 else DOMID_SELF
        self.add(What.STATUS, flag | self._fault(bits >> 24), port=port, value=owner)

    def bind_vcpu(self, bits: int) -> None:
        flag, port = self._port(bits)
        flags = flag | self._fault(bits >> 24)
        self.add(What.BIND_VCPU, flags, port=port, value=_VCPUS[bits >> 20 & 15])

    def unmask(self, bits: int) -> None:
        flag, port = self._port(bits)
        self.add(What.UNMASK, flag | self._fault(bits >> 20), port=port)

    def set_priority(self, bits: int) -> None:
        flag, port = self._port(bits)
        priority = bits >> 20 & 15 if bits >> 24 & 7 else (16, 17, 255, 0xFFFFFFFF)[bits >> 27 & 3]
        self.add(What.SET_PRIORITY, flag | self._fault(bits >> 29), port=port, value=priority)

    def poll(self, bits: int) -> None:
        flag, port = self._port(bits)
        other_flag, other = self._port(bits >> 16)
        other_flag = Flag.VALUE_OF_SLOT if other_flag else 0
        flags = flag | other_flag | (Flag.PAST if bits >> 30 & 15 else 0)
        count = (1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 0, 1, 128, 129, 1)[bits >> 34 & 15]
        self.add(What.POLL, flags, number=count, port=port, value=other)

    def take(self, bits: int) -> None:
        self.add(What.TAKE, number=bits & 1)

    def look(self, bits: int) -> None:
        flag, port = self._port(bits)
        self.add(What.LOOK, flag, port=port)

    def set_bit(self, bits: int) -> None:
        self._write_bit(What.SET_BIT, bits)

    def clear_bit(self, bits: int) -> None:
        self._write_bit(What.CLEAR_BIT, bits)

    def _write_bit(self, what: What, bits: int) -> None:
        flag, port = self._port(bits)
        bit = Bit.MASKED if bits >> 20 & 3 else Bit.PENDING
        self.add(what, flag, port=port, number=bit)

    def fifo(self, bits: int) -> None:
        """init_control or expand_array."""
        bad = Flag.BAD_FRAME if bits & 15 == 15 else 0
        flags = bad or self._fault(bits >> 4)
        if bits >> 9 & 1:
            self.add(What.EXPAND_ARRAY, flags & ~Flag.FAULT_OUT)
            return
        vcpu = (0, 1, 0, 1, 0, 1, 2, 255)[bits >> 10 & 7]
        offset = _OFFSETS[bits >> 13 & 7] if bits >> 17 & 1 else _OFFSETS[(bits >> 13 & 3) + 8]
        self.add(What.INIT_CONTROL, flags, number=vcpu, value=offset)

    def reset(self, bits: int) -> None:
        self.add(What.RESET_CONT if bits & 3 == 3 else What.RESET)
        if bits & 3 != 3:
            self._closed += self._open
            self._open = []

    def unknown(self, bits: int) -> None:
        self.add(What.UNKNOWN_COMMAND, value=_LOWEST_EVTCHNOP + bits % 40)


_Write = Callable[[_Writer, int], None]
_WEIGHTS: tuple[tuple[_Write, int], ...] = (  # of 256
    (_Writer.send, 44),
    (_Writer.unmask, 26),
    (_Writer.close, 28),
    (_Writer.pair, 16),
    (_Writer.alloc, 12),
    (_Writer.bind_interdomain, 14),
    (_Writer.bind_virq, 12),
    (_Writer.bind_ipi, 10),
    (_Writer.poll, 16),
    (_Writer.take, 16),
    (_Writer.bind_vcpu, 12),
    (_Writer.set_priority, 10),
    (_Writer.status, 8),
    (_Writer.set_bit, 12),
    (_Writer.clear_bit, 8),
    (_Writer.look, 4),
    (_Writer.fifo, 6),
    (_Writer.reset, 1),
    (_Writer.unknown, 1),
)
_STEPS: tuple[_Write, ...] = tuple(write for write, times in _WEIGHTS for _ in range(times))
assert len(_STEPS) == 256


def programme(chance: Random) -> list[Step]:
    """Return the next random programme of ``chance``."""
    return _Writer(chance).write()
