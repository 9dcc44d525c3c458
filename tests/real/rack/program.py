# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that belong to the rack: each runs as long as a block, and has a log."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def program(
    words: Sequence[str | Path], log: Path, *, cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``words`` in ``cwd``; SIGTERM at the end of the block, however it ends."""
    with log.open("wb") as said:
        child = subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield child
    finally:
        child.terminate()
        child.wait()
