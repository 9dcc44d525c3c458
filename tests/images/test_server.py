# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server's dom0 is unpacked from."""

from __future__ import annotations

import gzip
from pathlib import Path

from harness.images.server import pack


def test_another_archive_can_come_behind_a_compressed_one(tmp_path: Path) -> None:
    """Seen on arm64: dom0 panicked without a root, for its archive ended at an odd byte."""
    ends = set()
    for size in range(40):
        path = tmp_path / f"{size}.gz"
        pack(bytes(range(size)), path)
        packed = path.read_bytes()
        assert len(packed) % 4 == 0
        assert gzip.decompress(packed) == bytes(range(size))
        ends.add(len(gzip.compress(bytes(range(size)), 3)) % 4)
    assert ends == {0, 1, 2, 3}
