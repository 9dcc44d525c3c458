# SPDX-License-Identifier: GPL-2.0-or-later
"""The seal of a journal's line or of a document: a checksum, so that damage is noticed.

A sealed line ends with ``"line": N, "crc32": "XXXXXXXX"}``: the CRC-32 of all bytes before
``, "crc32"``.  So a changed line is noticed, and also one that was removed, doubled or moved.  The
lines of an older harness have no seal.

A document has the checksum of its other values as its value ``crc32``.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

KEYS = ("line", "crc32")
_SEAL = re.compile(rb', "line": (\d{1,12})(, "crc32": "([0-9a-f]{8})"\})\Z')


def seal(document: Mapping[str, Any], number: int) -> bytes:
    """Return ``document`` as line ``number`` (from 1) of a journal, newline included."""
    body = json.dumps({**document, "line": number}, allow_nan=False)[:-1].encode()
    return body + f', "crc32": "{zlib.crc32(body):08x}"}}\n'.encode()


def checksum(document: Mapping[str, Any]) -> str:
    """Return the ``crc32`` of a JSON ``document``: of all its values but that."""
    others = {name: value for name, value in document.items() if name != "crc32"}
    return f"{zlib.crc32(json.dumps(others, sort_keys=True).encode()):08x}"


class Seals:
    """Checks the lines of one journal, in their order."""

    def __init__(self) -> None:
        self._last: int | None = None  # the number of the last sealed line
        self._unread = 0  # lines after it that could not be read

    def check(self, line: bytes) -> str:
        """Check the seal of the next ``line``, without its newline.

        Returns "" or what is missing before it: "lines 3 to 4 are missing".  ValueError if the
        line is not as it was written, or not in its place.
        """
        found = _SEAL.search(line)
        if found is None:
            if self._last is not None:
                raise ValueError("it has no checksum")
            return ""
        if zlib.crc32(line[: found.start(2)]) != int(found[3], 16):
            raise ValueError("not as it was written: wrong checksum")
        number, last = int(found[1]), self._last
        if last is not None and number <= last:
            raise ValueError(f"line {number} was written before line {last}")
        first = number if last is None else last + 1 + self._unread
        self._last, self._unread = number, 0
        if number <= first:
            return ""
        if number == first + 1:
            return f"line {first} is missing"
        return f"lines {first} to {number - 1} are missing"

    def skip(self) -> None:
        """Count a line that cannot be read: it is not missing."""
        self._unread += 1
