# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lock a tree's event channels have, read from its own text.

``struct evtchn`` has a member ``lock``, and the type of this member is the lock: ``spinlock_t``
until Xen 4.14.0, ``rwlock_t`` since 5f2df45ead7c (4.14.1 and 4.15.0), ``atomic_t`` in the posting
"[PATCH v2 2/2] xen/evtchn: rework per event channel lock" of October 2020.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADERS = Path("xen/include/xen")
_USED_IN = (_HEADERS / "event.h", Path("xen/common/event_channel.c"))


@dataclass(frozen=True)
class _Kind:
    """A type of the member ``lock``: the flavours that it can be, and how it is taken."""

    designs: tuple[str, ...]  # the model's; the first is the one it is taken for
    taken: str  # regular expression: the name of what is called


_KINDS = {
    "rwlock_t": _Kind(("rwlock",), r"write_lock\w*"),
    "spinlock_t": _Kind(("spinlock",), r"spin_lock\w*"),
    "atomic_t": _Kind(("counter", "counter-v2"), r"atomic_\w*add\w*"),
}
_STRUCT = re.compile(r"\bstruct\s+evtchn\s*\{")
_MEMBER = re.compile(r"\b(\w+)\s+lock\s*;")
_FUNCTION = re.compile(r"^[A-Za-z_][^;={}\n]*?\b(\w+)\(", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class OwnLock:
    """The lock of a tree's event channels."""

    designs: tuple[str, ...]  # flavours that it can be; the first is the one it is taken for
    seen: str  # one line: in which text it was recognised


def own_lock(tree: Path) -> OwnLock | None:
    """Return the lock of the event channels of ``tree``; None if it is none that we know."""
    for header in _headers(tree):
        text = _text(tree / header)
        found = _STRUCT.search(text)
        if found is None:
            continue
        member = _MEMBER.search(text, found.end(), _end(text, found.end()))
        if member is None or member[1] not in _KINDS:
            return None
        kind = _KINDS[member[1]]
        seen = f"{member[1]} lock in struct evtchn ({header}:{_line(text, member.start())})"
        return OwnLock(kind.designs, ", ".join([seen, *_taken(tree, kind)]))
    return None


def _headers(tree: Path) -> list[Path]:
    """Return the headers in which struct evtchn may be, the usual one first."""
    others = sorted(path.relative_to(tree) for path in (tree / _HEADERS).glob("*.h"))
    return list(dict.fromkeys([_HEADERS / "sched.h", *others]))


def _taken(tree: Path, kind: _Kind) -> Iterator[str]:
    """Yield the first place where the lock is taken."""
    call = re.compile(rf"\b({kind.taken})\([^;]*?->lock\b")
    for file in _USED_IN:
        text = _text(tree / file)
        found = call.search(text)
        if found is not None:
            *_, function = _FUNCTION.findall(text, 0, found.start()) or [""]
            inside = f" by {function}" if function else ""
            yield f"taken with {found[1]}{inside} ({file}:{_line(text, found.start())})"
            return


def _text(file: Path) -> str:
    """Return the text of ``file``, its comments blanked; "" if it cannot be read."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return ""
    return _COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), text)


def _end(text: str, position: int) -> int:
    """Return where the braces end that were opened just before ``position``."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, position):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    return len(text)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
