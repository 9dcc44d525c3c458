# SPDX-License-Identifier: GPL-2.0-or-later
"""A channel to an agent that runs here, as a child process."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from pathlib import Path


class ProcessChannel:
    """``agent serve`` as a child of this process."""

    def __init__(self, *argv: str | Path) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdin and self.process.stdout
        self._in = self.process.stdin
        self._out = self.process.stdout.fileno()

    def write(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def read(self, limit: int, timeout: float) -> bytes:
        if not select.select([self._out], [], [], timeout)[0]:
            raise TimeoutError
        return os.read(self._out, limit)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # killed before it had read everything
            self._in.close()
        self.process.wait(10)
