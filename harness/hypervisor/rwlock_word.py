# SPDX-License-Identifier: GPL-2.0-or-later
"""How the word of Xen's rwlock is laid out, and whether a domain's event_lock is one.

Xen has changed it twice since 4.12.  A backport to an old release keeps the layout of that release,
so it is never taken from a version number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SHIFT = re.compile(r"^#define\s+_QW_SHIFT\s+(\d+)", re.MULTILINE)
_BYTE_WIDE = re.compile(r"^#define\s+_QR_SHIFT\s+8\b", re.MULTILINE)
_EVENT_LOCK = re.compile(r"^\s*rwlock_t\s+event_lock;", re.MULTILINE)


@dataclass(frozen=True)
class RwlockWord:
    """The fields of the word, by their names in xen/include/xen/rwlock.h."""

    waiting: int  # _QW_WAITING
    locked: int  # _QW_LOCKED, which is also _QW_WMASK
    readers: int  # _QR_SHIFT
    cpu: int = 0  # _QW_CPUMASK; 0: the writer's CPU is not in the word

    def mode(self, word: int) -> int:
        """Return the writer's mode, as the model has it: 0 none, 1 a writer waits, 3 one has it."""
        found = word & self.locked
        return 3 if found == self.locked else found // self.waiting

    def bits(self, mode: int) -> int:
        """Return the bits of a ``mode`` of 0, 1 or 3."""
        return {0: 0, 1: self.waiting, 3: self.locked}[mode]

    def count(self, word: int) -> int:
        """Return how many readers are in the word."""
        return word >> self.readers


def _with_cpu(shift: int) -> RwlockWord:
    """Return the layout whose writer's bits begin at ``shift`` (_QW_SHIFT), behind its CPU."""
    return RwlockWord(1 << shift, 3 << shift, shift + 2, (1 << shift) - 1)


BYTE_WIDE = RwlockWord(0x01, 0xFF, 8)
LAYOUTS = (_with_cpu(12), _with_cpu(14), BYTE_WIDE)  # since 4.14; since 4.19; before 4.14


def layout_of(tree: Path) -> RwlockWord | None:
    """Return the layout in the source ``tree``; None if it is none of these, or has no header."""
    header = _header(tree, "rwlock.h") or ""
    found = _SHIFT.search(header)
    if found is not None:
        return _with_cpu(int(found[1]))
    return BYTE_WIDE if _BYTE_WIDE.search(header) else None


def event_lock_is_rwlock(tree: Path) -> bool | None:
    """Say whether a domain's event_lock is a rwlock in the source ``tree``: since 4.17; None if the
    tree has no such header."""
    header = _header(tree, "sched.h")
    return None if header is None else _EVENT_LOCK.search(header) is not None


def _header(tree: Path, name: str) -> str | None:
    try:
        return (tree / "xen" / "include" / "xen" / name).read_text(errors="replace")
    except OSError:
        return None
