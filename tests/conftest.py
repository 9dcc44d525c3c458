# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests have in common."""

from __future__ import annotations

import signal

import pytest

from harness import interrupts


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mutations",
        type=int,
        default=300,
        help="tests/fuzz: how many changed inputs to give to all readers together",
    )


def pytest_configure() -> None:
    """Take Ctrl-C and a hang-up, as a person's shell would.

    A shell's background jobs ignore SIGINT, nohup's SIGHUP, and so would all that the tests start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_interrupt_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal in one test is none in the next, as each command has a process of its own."""
    monkeypatch.setattr(interrupts, "_seen", False)
