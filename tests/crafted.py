# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that nobody's dpkg-deb would build: any member, in any order."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

CONTROL = (
    b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: x\n"
)


def file(name: str, content: bytes = b"evil", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return _special(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return _special(name, tarfile.LNKTYPE, target)


def fifo(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return _special(name, tarfile.FIFOTYPE, "")


def _special(name: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as out:
        for member, content in members:
            out.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def deb(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write a package with the files ``members`` to ``path`` (an ar archive, deb(5))."""
    parts = (
        ("debian-binary", b"2.0\n"),
        ("control.tar", tar([file("./control", CONTROL)])),
        ("data.tar", tar(members)),
    )
    body = b"!<arch>\n"
    for name, content in parts:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        body += head + content + b"\n" * (len(content) % 2)
    path.write_bytes(body)
    return path
