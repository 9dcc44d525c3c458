# SPDX-License-Identifier: GPL-2.0-or-later
"""An interrupt that Python drops is found at the next look."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from harness import interrupts


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Handle signals as the command line does, and as before afterwards."""
    monkeypatch.setattr(interrupts, "_seen", False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.handle()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_raised_at_once(number: signal.Signals) -> None:
    interrupts.check()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@pytest.mark.usefixtures("handled")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_in_a_destructor_is_found_at_the_next_look() -> None:
    class Closed:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    closed = Closed()
    del closed
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


@pytest.mark.usefixtures("handled")
def test_one_while_nobody_reads_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person's pager stands still: the handler comes in the middle of a write to stderr."""
    reader, writer = os.pipe()
    stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(writer, "w")))
    monkeypatch.setattr(sys, "stderr", stderr)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        stderr.write("x" * (1 << 20))
    monkeypatch.undo()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError):
        stderr.close()


@pytest.mark.usefixtures("handled")
def test_what_the_caller_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.handle()
    os.kill(os.getpid(), signal.SIGINT)
    interrupts.check()
