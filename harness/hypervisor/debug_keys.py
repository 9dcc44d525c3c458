# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen prints when a debug key is pressed on its console.

``d`` (dump_registers, xen/common/keyhandler.c) runs in the console's interrupt and takes no
lock of event channels, so a Xen that hangs with interrupts on still answers it: the CPU with
the console at once, the others when an IPI reaches them (an NMI on x86-64).  The keys that
run in a tasklet (``0``, ``q``, ``e``) say nothing then, and ``e`` and ``*`` would take the
stuck lock (seen on Xen 4.17).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.hypervisor.cpu import Cpu

DUMP_REGISTERS = "d"
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
