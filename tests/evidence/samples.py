# SPDX-License-Identifier: GPL-2.0-or-later
"""One piece of evidence of every kind."""

from __future__ import annotations

from harness.evidence import (
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

CLOSE = Operation(
    domain="dom0", vcpu=0, verb="close", arguments={"port": 12}, result=0, begin=0.0, end=9.5
)
SEND = Operation(domain="domu1", vcpu=1, verb="send", arguments={"port": 12}, begin=3.0)
HANG = Hang(
    cpus=(
        Spin(cpu=0, function="_write_lock", where="_write_lock+0x4/0x40", cause=False),
        Spin(
            cpu=1,
            function="evtchn_write_lock",
            where="evtchn_write_lock+0x4/0x40",
            port=33,
            word=8193,
            writers=1,
            readers=1,
            fault=LockFault.LEAKED_READER,
        ),
    ),
    backtraces=(Backtrace(cpu=0, frames=("_write_lock+0x4/0x40", "evtchn_close+0x1/0x9")),),
)
SAMPLES: tuple[Evidence, ...] = (
    HANG,
    Crash(
        what="assertion",
        stream="xen",
        text="Assertion 'a == b' failed at event.h:120",
        file="event.h",
        line=120,
        expression="a == b",
    ),
    Disallowed(property="lost-event", culprit=SEND, operations=(CLOSE, SEND), found=3),
    WrongAnswer(operation=CLOSE, seen="0", allowed=("-EINVAL (close: free port)",), release="4.17"),
    WrongState(
        domain="bare",
        port=5,
        vcpu=0,
        differences=(Difference(name="pending", seen=1, expected=0),),
        release="4.17",
    ),
    WrongEvents(domain="bare", vcpu=0, seen=(5,), expected=(), release="4.17"),
    Departure(
        stand=Stand(cpu=0, step="done", function="evtchn_read_unlock", where="x+0x1/0x2"),
        differences=(Difference(name="L", seen=1, expected=0),),
        lost=(SEND,),
    ),
    UnforeseenEnd(scenario="send-close", results=(0, -22), state="FREE"),
    Leak(changes=(Change(what="event channels", before="", after="9: Unbound"),)),
    BringUp(stage="boot", last_words=("FATAL: Failed to initialize dom0",)),
    Assertion(file="test_duel.py", function="test_it", line=7, expression="seen.lost == 0"),
    InFlight(domain="dom0", verb="close", arguments={"port": 5}, thread=2, milliseconds=900),
)
