# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen of a failure, as values: compared as they are, and put into words at the end.

``kinds`` has the types, ``identity`` says when two are the same failure, ``pattern`` what a
corpus entry expects, ``words`` turns them into text.  Nothing here imports a room of ours, and
nobody reads the text back.
"""

from harness.evidence.kinds import (
    Assertion,
    Backtrace,
    BringUp,
    Change,
    Crash,
    Departure,
    Difference,
    Disallowed,
    Evidence,
    Hang,
    InFlight,
    Leak,
    LockFault,
    Operation,
    Spin,
    Stand,
    UnforeseenEnd,
    WrongAnswer,
    WrongEvents,
    WrongState,
)

__all__ = [
    "Assertion",
    "Backtrace",
    "BringUp",
    "Change",
    "Crash",
    "Departure",
    "Difference",
    "Disallowed",
    "Evidence",
    "Hang",
    "InFlight",
    "Leak",
    "LockFault",
    "Operation",
    "Spin",
    "Stand",
    "UnforeseenEnd",
    "WrongAnswer",
    "WrongEvents",
    "WrongState",
]
