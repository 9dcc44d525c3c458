# SPDX-License-Identifier: GPL-2.0-or-later
"""The hunks of a patch, and which functions each of them changes.

git writes into a hunk's head the function before its first line, which need not be the one that
it changes: the next one may begin inside, and a hunk of a header may add several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.hypervisor.patches import identity, is_head

_SECTION = re.compile(r"^\+\+\+ [^/\s]+/(\S+)")
_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)$")
_LABEL = re.compile(r"^\s*\w+:\s*$")  # of a goto: no function begins there


@dataclass(frozen=True)
class Hunk:
    """One hunk of a patch."""

    file: str  # below the tree: xen/common/event_channel.c
    line: int  # in the old file
    functions: tuple[str, ...]  # that it changes; of a structure "struct NAME"; () outside of all


def hunks(patch: str) -> tuple[Hunk, ...]:
    """Return the hunks of ``patch``, the text of a patch or of a mail with one, in their order."""
    return tuple(_hunks(iter(patch.splitlines())))


def _hunks(lines: Iterator[str]) -> Iterator[Hunk]:
    file = ""
    for line in lines:
        if named := _SECTION.match(line):
            file = named[1]
        elif begun := _HUNK.match(line):
            at, old, new = int(begun[1]), int(begun[2] or 1), int(begun[3] or 1)
            inside = identity(begun[4]) if is_head(begun[4]) else ""
            yield Hunk(file, at, tuple(dict.fromkeys(_changed(lines, inside, old, new))))


def _changed(lines: Iterator[str], inside: str, old: int, new: int) -> Iterator[str]:
    """Yield the function around each line that is added or removed; ``inside``: before the first.

    ``old``, ``new``: how many lines the hunk has of either file.
    """
    for line in lines:
        sign, text = line[:1] or " ", line[1:]
        if sign == "\\":  # "No newline at end of file"
            continue
        if is_head(text) and not _LABEL.match(text):
            inside = identity(text)
        if sign != " " and text.strip() and not text.startswith("#") and inside:
            yield inside
        old, new = old - (sign != "+"), new - (sign != "-")
        if old <= 0 and new <= 0:
            return
