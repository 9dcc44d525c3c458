# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen prints when a debug key is pressed on its console.

``d`` (dump_registers, xen/common/keyhandler.c) runs in the console's interrupt and takes no
lock of event channels, so a Xen that hangs with interrupts on still answers it: the CPU with
the console at once, the others when an IPI reaches them (an NMI on x86-64).  The keys that
run in a tasklet (``0``, ``q``, ``e``) say nothing then, and ``e`` and ``*`` would take the
stuck lock (seen on Xen 4.17).

``i`` (dump_irqs, xen/arch/x86/irq.c; Arm has none) shows every interrupt, and of those that are
bound to an event channel whether it is pending and masked.  It tries the channel's lock for that:

    IRQ:   3 vec:38 IO-APIC-edge    status=010 aff:{0}/{0} in-flight=0 d0:  3(-M-)
    IRQ:   5 vec:40 IO-APIC-level   status=002 aff:{0}/{0} mapped, unbound

Up to 4.12 it shows the same in other words ("affinity:1 vec:38 ... domain-list=0:  3(-M-),").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.hypervisor.console_bodies import xen_bodies
from harness.hypervisor.cpu import Cpu
from harness.verdict import LabError

DUMP_REGISTERS = "d"
DUMP_INTERRUPTS = "i"
ANSWER = re.compile(r"'d' pressed")
INPUT = re.compile(r"\*\*\* Serial input (?:to|->) (?P<to>\S+)")  # "->": up to 4.11
SWITCH = b"\x01" * 3  # Ctrl-A three times: the next reader of the console (conswitch=a)

_LARGEST_STACK = 1 << 20  # bytes; Xen's are 32 KiB
_CPU = re.compile(r"\*\*\* Dumping CPU(\d+) (?:host|guest) ")
_PC = re.compile(r"(?:PC:\s+|RIP:\s+[0-9a-f]+:\[<)([0-9a-f]{16})")
_REGISTER = re.compile(r"\b(r[a-z0-9]{1,2}|X\d{1,2}|FP|LR|SP):\s*([0-9a-f]{16})")
_END = re.compile(r"(Xen|Guest) (stack|code)")  # after it come words of memory
_STACK = re.compile(r"Xen stack trace from (?:sp|rsp)=([0-9a-f]+):")
_WORDS = re.compile(r"^\s+([0-9a-f]{16}(?: [0-9a-f]{16})*)\s*$")
_IRQ = re.compile(
    r"\s*IRQ:\s*(\d{1,5}) (?:affinity:\S+ )?vec:\S+ .*? status=\S+ (?:aff:\S+ )?(?:Z=\S+\s+)?"
    r"(?P<use>mapped, unbound|in-flight=\d+(?: (?:domain-list=)?(?P<guests>.*))?|\S+\(\))\s*"
)
_PART_OF_IRQ = re.compile(r"\bIRQ:|\bvec:|\bstatus=|\bin-flight=|mapped, unbound")
_GUEST = re.compile(r"d?(\d{1,5}):\s*(\d{1,5})\(([-P?])([-M?])([-M])\)")
_UNBOUND = "mapped, unbound"


@dataclass(frozen=True)
class BoundInterrupt:
    """An interrupt that is bound to an event channel of a domain, as ``i`` shows it."""

    irq: int
    domid: int
    pirq: int  # the domain's own number of it
    pending: bool | None  # the channel; None: Xen did not get its lock
    masked: bool | None
    held: bool  # the interrupt waits for the domain's EOI


@dataclass(frozen=True)
class Interrupts:
    """One answer to ``i``."""

    bound: tuple[BoundInterrupt, ...]
    unbound: frozenset[int]  # mapped to a domain, and bound to no channel

    def of(self, pirq: int, domid: int = 0) -> BoundInterrupt | None:
        """Return the interrupt that the domain knows as ``pirq``; None if it is not bound."""
        named = (each for each in self.bound if (each.domid, each.pirq) == (domid, pirq))
        return next(named, None)


def interrupts(lines: Iterable[str]) -> list[Interrupts]:
    """Return the answers to ``i`` in ``lines`` of Xen's console, one for each time it was pressed.

    LabError for a line that Xen cannot have printed: the console has lost or mixed letters.
    """
    found: list[Interrupts] = []
    bound: list[BoundInterrupt] = []
    unbound: set[int] = set()
    inside = False
    for text in (body.text for line in lines for body in xen_bodies(line)):
        if text.startswith("IRQ information:"):
            bound, unbound, inside = [], set(), True
        elif inside and text.startswith("Direct vector information:"):
            found.append(Interrupts(tuple(bound), frozenset(unbound)))
            inside = False
        elif inside and (shown := _IRQ.fullmatch(text)):
            if shown["use"] == _UNBOUND:
                unbound.add(int(shown[1]))
            bound += _channels(int(shown[1]), shown["guests"] or "")
        elif inside and _PART_OF_IRQ.search(text):  # else Xen printed it between two of these lines
            raise LabError(
                f"a line of debug key i is cut or mixed with another: {text[:80]!r}",
                where="console",
            )
    return found


def _channels(irq: int, guests: str) -> list[BoundInterrupt]:
    """Return the channels in ``guests``: "d0:  3(-M-),d1: 17(PM-)"."""
    named = [_GUEST.fullmatch(guest.strip()) for guest in guests.split(",") if guest.strip()]
    if None in named:
        raise LabError(f"IRQ {irq} in no state that Xen prints: {guests[:80]!r}", where="console")
    return [
        BoundInterrupt(
            irq,
            int(guest[1]),
            int(guest[2]),
            None if guest[3] == "?" else guest[3] == "P",
            None if guest[4] == "?" else guest[4] == "M",
            guest[5] == "M",
        )
        for guest in named
        if guest is not None
    ]


def registers(lines: Iterable[str]) -> list[Cpu]:
    """Return the CPUs in the answer to ``d``, ``lines`` of Xen's console, by number.

    A CPU that was inside Xen is told as it was there; one that ran a guest is where the
    guest was.  Of a CPU that did not answer there is nothing.  The words of Xen's stack that are
    printed come along.
    """
    found: dict[int, dict[str, int]] = {}
    stacks: dict[int, tuple[int, bytearray]] = {}
    where: dict[str, int] | None = None
    words: bytearray | None = None
    number = 0
    for line in lines:
        if begun := _CPU.search(line):
            number, words = int(begun[1]), None
            where = None if number in found else found.setdefault(number, {})  # Xen's comes first
        elif number not in stacks and (top := _STACK.match(line)):
            where, words = None, bytearray()
            stacks[number] = int(top[1], 16), words
        elif words is not None and (printed := _WORDS.match(line)):
            for word in printed[1].split() if len(words) < _LARGEST_STACK else ():
                words += int(word, 16).to_bytes(8, "little")
        elif where is None or _END.match(line):
            where = words = None
        elif pc := _PC.search(line):
            where["PC"] = int(pc[1], 16)
        else:
            where |= {_name(name): int(value, 16) for name, value in _REGISTER.findall(line)}
    return [
        Cpu(number, seen["PC"], seen, stack_at=stacks[number][0], stack=bytes(stacks[number][1]))
        if number in stacks
        else Cpu(number, seen["PC"], seen)
        for number, seen in sorted(found.items())
        if "PC" in seen
    ]


def _name(name: str) -> str:
    """Return QEMU's name of a register: X1 is X01, rdi is RDI."""
    return f"X{int(name[1:]):02}" if name[0] == "X" else name.upper()
