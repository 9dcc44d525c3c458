# SPDX-License-Identifier: GPL-2.0-or-later
"""A console's bytes cut into lines, of which none is longer than LONGEST."""

from __future__ import annotations

LONGEST = 8192  # bytes; Xen and Linux print at most some 1,000 in one line
XEN = b"(XEN) "


class Lines:
    """Cuts what comes into lines.  What has no newline is cut all the same, after LONGEST bytes.

    Never within XEN, and before it if possible: the message of Xen that follows is whole then,
    also if a guest has printed megabytes without a newline.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """Take the next bytes; return (line or piece of one, whether its newline has come)."""
        found: list[tuple[bytes, bool]] = []
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            self._rest += line
            found += [(piece, False) for piece in self._pieces(LONGEST)]
            found.append((bytes(self._rest), True))
            self._rest.clear()
        self._rest += rest
        return found + [(piece, False) for piece in self._pieces(LONGEST)]

    def flush(self) -> bytes:
        """Return what has come without a newline yet, and forget it."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _pieces(self, longest: int) -> list[bytes]:
        """Cut off pieces until at most ``longest`` bytes are left."""
        found, at = [], 0
        while len(self._rest) - at > longest:
            end = self._rest.find(XEN, at + 1, at + longest + len(XEN) - 1)
            end = at + longest if end < 0 else end
            found.append(bytes(self._rest[at:end]))
            at = end
        del self._rest[:at]
        return found
