# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios for what stress has met."""

from __future__ import annotations

from harness.evidence import Crash, Disallowed, Operation
from harness.interleave.suggest import overlaps


def made(
    domain: str, vcpu: int, verb: str, begin: float, end: float | None, **arguments: int | str
) -> Operation:
    result = None if end is None else 0
    return Operation(
        domain=domain,
        vcpu=vcpu,
        verb=verb,
        arguments=arguments,
        result=result,
        begin=begin,
        end=end,
    )


WITNESS = (
    made("dom0", 0, "bind_interdomain", 0.0, 12.5, remote_dom="dom0", remote_port=5),
    made("dom0", 1, "unmask", 3.0, 9.0, port=5),
    made("domu1", 0, "close", 20.0, None, port=6),
    made("domu1", 1, "send", 30.0, 31.0, port=6),
    made("dom0", 1, "send", 40.0, 41.0, port=5),
)


def seen(*operations: Operation) -> Disallowed:
    return Disallowed(property="order", operations=operations)


def test_operations_that_overlapped_become_scenarios() -> None:
    found = overlaps(seen(*WITNESS))
    assert [meeting.scenarios for meeting in found] == [
        ("unmask-bind",),
        ("send-close", "send-close-peer", "domu-send-close-peer"),
    ]
    assert found[0].one == "dom0 cpu0 bind_interdomain(remote dom dom0, remote port 5)"
    assert found[1].other == "domu1 cpu1 send(port 6)"


def test_operations_one_after_the_other_meet_nobody() -> None:
    assert overlaps(seen(WITNESS[0], WITNESS[4])) == ()
    assert overlaps(None) == ()
    assert overlaps(Crash(what="panic", stream="xen", text="")) == ()
