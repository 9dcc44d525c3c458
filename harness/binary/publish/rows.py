# SPDX-License-Identifier: GPL-2.0-or-later
"""Data of event channels that one CPU makes, and the flag by which it tells the others so.

Xen writes the data, then the flag; it reads the flag, then the data, and holds no lock that the
writer holds.  Each row says in which members of which structures both are, and which functions
write and read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.binary.publish.fields import Memory, structure

_CHANNELS, _FIFO = "common/event_channel.c", "common/event_fifo.c"
_POINTER = 8


@dataclass(frozen=True)
class Part:
    """A member of a structure; of an array of structures: the member of its elements."""

    tag: str
    member: str
    element: str = ""  # "evtchn_fifo_queue.head": the member of each element

    def __str__(self) -> str:
        inside = f"[].{self.element.partition('.')[2]}" if self.element else ""
        return f"{self.tag}.{self.member}{inside}"


@dataclass(frozen=True)
class Publication:
    """One row.  A flag that is None was read before the reading functions were called."""

    flag_name: str
    data_name: str
    unit: str  # the source file that knows the structures
    flag: Part | None
    data: Part
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    called: tuple[str, ...] = ()  # functions that read the data, where they are not inlined
    elements: str = ""  # the type of what the data points to, if that is data as well
    fixed_by: str = ""  # upstream's commit that put the order right


PUBLICATIONS = (
    Publication(
        "valid_evtchns",
        "the bucket of the port",
        _CHANNELS,
        Part("domain", "valid_evtchns"),
        Part("domain", "evtchn_group"),
        ("evtchn_allocate_port",),
        ("port_is_valid",),
        called=("evtchn_from_port",),
        elements="evtchn * *",
        fixed_by="112992b05b2d",
    ),
    Publication(
        "control_block",
        "the queue's head",
        _FIFO,
        Part("evtchn_fifo_vcpu", "control_block"),
        Part("evtchn_fifo_vcpu", "queue", "evtchn_fifo_queue.head"),
        ("map_control_block",),
        ("evtchn_fifo_set_pending",),
        fixed_by="c5e63651fdc7",
    ),
    Publication(
        "num_evtchns",
        "the page in event_array",
        _FIFO,
        Part("evtchn_fifo_domain", "num_evtchns"),
        Part("evtchn_fifo_domain", "event_array"),
        ("add_page_to_event_array",),
        ("evtchn_fifo_word_from_port",),
    ),
    Publication(
        "evtchn_port_ops",
        "evtchn_fifo",
        _FIFO,
        None,
        Part("domain", "evtchn_fifo"),
        (),
        ("evtchn_fifo_word_from_port",),
        fixed_by="dc8b01affd7f",
    ),
)


@dataclass(frozen=True)
class Found:
    """Where one build has the memory of a row."""

    flag: Memory | None
    data: tuple[Memory, ...]


def found(elf: Path, row: Publication) -> Found | None:
    """Return where ``elf`` has what ``row`` names; None if it has not all of it."""
    data = _memory(elf, row.data, row.unit)
    flag = _memory(elf, row.flag, row.unit) if row.flag is not None else None
    if data is None or (row.flag is not None and flag is None):
        return None
    pointed = (Memory(row.elements, 0, _POINTER, _POINTER, 0),) if row.elements else ()
    return Found(flag, (data, *pointed))


def _memory(elf: Path, part: Part, unit: str) -> Memory | None:
    record = structure(elf, part.tag, unit)
    member = record.get(part.member) if record is not None else None
    if member is None:
        return None
    if not member.element:
        return Memory(f"{part.tag} *", member.offset, member.size)
    count = member.size // member.element
    if not part.element:
        return Memory(f"{part.tag} *", member.offset, member.element, member.element, count)
    tag, _, name = part.element.partition(".")
    inner = structure(elf, tag, unit)
    inside = inner.get(name) if inner is not None else None
    if inside is None:
        return None
    offset = member.offset + inside.offset
    return Memory(f"{part.tag} *", offset, inside.size, member.element, count)
