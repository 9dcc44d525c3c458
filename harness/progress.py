# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress on stderr: one line that is updated on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.status import Status

_PLAIN_EVERY = 10.0  # seconds between the lines if stderr is not a terminal


class Progress:
    """Shows which phase runs, for how long, and how fast."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._title = ""
        self._began = self._printed = time.monotonic()

    @contextmanager
    def phase(self, host: str, name: str) -> Iterator[Callable[[], float]]:
        """Show phase ``name`` of ``host`` while the block runs, and how long it took at its end.

        Yields a function that returns the seconds since the phase began.
        """
        began = time.monotonic()
        self._title, self._began, self._printed = f"{host:12} {name:9}", began, began
        if self._console.is_terminal:
            self._status = self._console.status(self._title)
            self._status.start()
        outcome = "failed"
        try:
            yield lambda: time.monotonic() - began
            outcome = ""
        finally:
            if self._status is not None:
                self._status.stop()
                self._status = None
            self.note(f"{self._title} {time.monotonic() - began:6.1f} s {outcome}".rstrip())

    def update(self, text: str) -> None:
        """Show ``text`` beside the running phase."""
        elapsed = time.monotonic() - self._began
        if self._status is not None:
            self._status.update(f"{self._title} {elapsed:4.0f} s  {text}")
        else:
            self.sign(f"{self._title} {elapsed:4.0f} s  {text}")

    def sign(self, text: str) -> None:
        """Print ``text`` as a sign of life, unless a line was printed a moment ago."""
        if time.monotonic() - self._printed >= _PLAIN_EVERY:
            self.note(text)

    def note(self, text: str) -> None:
        """Print one line that stays."""
        self._printed = time.monotonic()
        self._console.print(text, markup=False)
