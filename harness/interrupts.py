# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C and SIGTERM: both raise KeyboardInterrupt, and neither gets lost.

Python drops an exception in a destructor or in a callback of C code, and a signal can come just
there.  So it is also noted, and who begins something long looks at the note.
"""

from __future__ import annotations

import signal
from types import FrameType

_seen = False


def handle() -> None:
    """Have SIGTERM and Ctrl-C end this process in the same way."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup`, or `&` in a shell's script
            signal.signal(number, _note)


def check() -> None:
    """KeyboardInterrupt if one of them has come."""
    if _seen:
        raise KeyboardInterrupt


def _note(_signal: int, _frame: FrameType | None) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt
