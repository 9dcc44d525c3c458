# SPDX-License-Identifier: GPL-2.0-or-later
"""The same failure is recognised again, and another one is not taken for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.arch import Arch
from harness.bisect.signature import Signature, signature
from harness.evidence import (
    Assertion,
    Crash,
    Disallowed,
    Evidence,
    Hang,
    Operation,
    Spin,
    codec,
)
from harness.hypervisor import locks
from harness.hypervisor.console import scan
from harness.hypervisor.objects import Named
from harness.run import hang


def of(evidence: Evidence | None, name: str = "load") -> Signature:
    return signature({"name": name, "evidence": evidence and codec.to_json(evidence)})


def spin(cpu: int, function: str, port: int | None, word: int | None, *, cause: bool) -> Spin:
    read = None if word is None else locks.counted(Arch.X86_64, word)
    wanted = locks.Operation(function, "", locks.Kind.COUNTER, None, Named("", "lock", port))
    return Spin(
        cpu=cpu,
        function=function,
        where=f"{function}+0x1a/0x30",
        port=port,
        word=word,
        writers=read.writers if read else None,
        readers=read.readers if read else None,
        fault=hang.fault(read, wanted) if read else None,
        cause=cause,
    )


LEAK = Hang(
    cpus=(
        spin(0, "queue_read_lock_slowpath", None, None, cause=False),
        spin(1, "evtchn_write_lock", 33, 8193, cause=True),
    )
)
LEAK_ELSEWHERE = Hang(cpus=(spin(0, "evtchn_write_lock", 7, 8194, cause=True),))
UNDERFLOW = Hang(cpus=(spin(1, "evtchn_write_lock", 33, -1, cause=True),))


def lost(port: int, found: int) -> Disallowed:
    send = Operation(domain="domu1", vcpu=1, verb="send", arguments={"port": port}, result=0)
    bind = Operation(domain="dom0", vcpu=0, verb="bind_ipi", arguments={"vcpu": 1}, result=port)
    return Disallowed(property="lost-event", culprit=send, operations=(bind, send), found=found)


def crash(text: str) -> Crash:
    event = scan("xen", text)
    assert event is not None
    return Crash(
        what=event.kind,
        stream="xen",
        text=event.text,
        file=event.file,
        line=event.line,
        expression=event.expression,
    )


def claim(line: int) -> Assertion:
    return Assertion(
        file="test_duel.py", function="test_it", line=line, expression="seen.lost == 0"
    )


def test_ports_cpus_and_counts_do_not_matter() -> None:
    assert of(LEAK) == of(LEAK_ELSEWHERE)
    assert (of(LEAK).kind, of(LEAK).site) == ("hang", "evtchn_write_lock")
    waits = spin(0, "_write_lock", None, 3, cause=False)
    assert of(replace(LEAK, cpus=(waits, LEAK.cpus[1]))) == of(LEAK)
    assert of(UNDERFLOW).shape == "underflow"
    assert of(lost(12, 3)) == of(lost(99, 1))
    assert of(lost(12, 3)).shape == "send"
    assert of(claim(17)) == of(claim(4))


def test_a_line_number_moves_with_every_commit() -> None:
    failed = "Assertion 'old == FREE' failed at event.h:{}"
    assert of(crash(failed.format(120))) == of(crash(failed.format(122)))
    assert of(crash(failed.format(120))).site == "event.h"
    other = failed.format(120).replace("FREE", "UNBOUND")
    assert of(crash(failed.format(120))) != of(crash(other))
    bug = "Xen BUG at spinlock.c:{}"
    assert of(crash(bug.format(1))) == of(crash(bug.format(2)))
    assert of(crash(bug.format(1))) != of(crash(bug.format(2).replace("spin", "rw")))
    trap = "FATAL TRAP: vector = 14 (page fault)"
    assert of(crash(trap)) == of(crash(trap.replace("14", "8"))) != of(crash(bug.format(1)))


@pytest.mark.parametrize(
    "other",
    [
        UNDERFLOW,
        Hang(cpus=(spin(1, "queue_read_lock_slowpath", None, None, cause=True),)),
        Crash(what="panic", stream="xen", text="Panic on CPU 0: out of memory"),
        lost(12, 3),
        claim(3),
        None,
    ],
)
def test_another_failure_has_another_signature(other: Evidence | None) -> None:
    assert of(other) != of(LEAK)


def test_the_same_evidence_of_another_test_is_another_failure() -> None:
    assert of(LEAK, name="duel") != of(LEAK, name="load")


def test_a_signature_as_text() -> None:
    assert str(of(LEAK, name="poll")) == "poll: hang in evtchn_write_lock (leaked-reader)"
