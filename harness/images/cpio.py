# SPDX-License-Identifier: GPL-2.0-or-later
"""cpio archives in the "newc" format: what Linux unpacks as its initramfs.

Linux accepts several archives one after the other; a later one adds files to the earlier ones, or
replaces their files (Documentation/driver-api/early-userspace/buffer-format.rst
in Linux).  Every owner is root and every time is 0, so equal input gives equal bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_ALIGN = 512  # an archive is padded to a multiple of this, so that another may follow


@dataclass(frozen=True)
class File:
    """A regular file: its content (bytes, or the path of a local file) and its permission bits."""

    content: bytes | Path
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    """A symbolic link to ``target``."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A directory; parent directories of other members are added automatically."""

    mode: int = 0o755


Member = File | Link | Folder


def archive(members: Mapping[str, Member]) -> bytes:
    """Return an archive of ``members``, by path relative to the root ("bin/sh").

    Raises ValueError for an absolute path or one with "..".
    """
    everything: dict[str, Member] = {}
    for name in sorted(members):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"not a path below the root: {name!r}")
        for folder in reversed(path.parents[:-1]):
            everything.setdefault(str(folder), Folder())
        everything[str(path)] = members[name]
    parts = [_record(i, name, member) for i, (name, member) in enumerate(everything.items(), 1)]
    parts.append(_header(0, "TRAILER!!!", 0, 0))
    blob = b"".join(parts)
    return blob + bytes(-len(blob) % _ALIGN)


def _record(inode: int, name: str, member: Member) -> bytes:
    match member:
        case Folder(mode):
            return _header(inode, name, stat.S_IFDIR | mode, 0)
        case Link(target):
            body, mode = target.encode(), stat.S_IFLNK | 0o777
        case File(content, bits):
            body = content if isinstance(content, bytes) else content.read_bytes()
            mode = stat.S_IFREG | bits
    return _header(inode, name, mode, len(body)) + body + bytes(-len(body) % 4)


def _header(inode: int, name: str, mode: int, size: int) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    text = name.encode() + b"\0"
    # inode, mode, uid, gid, nlink, mtime, size, 4 device numbers, length of name, checksum
    fields = (inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(text), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + text
    return head + bytes(-len(head) % 4)
