"""The same failure is recognised again, and another one is not taken for it."""

from __future__ import annotations

import pytest

from harness.bisect.signature import Signature, signature


def of(message: str, story: str = "", name: str = "load") -> Signature:
    return signature({"name": name, "message": message, "story": story})


LEAK = (
    "Xen hangs: CPU0 spins in queue_read_lock_slowpath; CPU1 spins in evtchn_write_lock on port "
    "33: lock word = 8193 = one writer + 1 reader: a read side that no CPU holds any more was "
    "never released; seen when this did not come back: dom0: alloc_unbound"
)
LEAK_ELSEWHERE = (
    "Xen hangs: CPU0 spins in evtchn_write_lock on port 7: lock word = 130 = one writer + 2 "
    "readers: a read side that no CPU holds any more was never released; seen when this did "
    "not come back: domu1: alloc_unbound; CPU9 spins in nothing"
)
UNDERFLOW = (
    "Xen hangs: CPU1 spins in evtchn_write_lock on port 33: lock word = -1, below zero: a read "
    "side was released more often than taken"
)
STORY = (
    "lost: an event was sent, and never delivered\n"
    "   [       0.000 ..        1.200] us  dom0      cpu0  bind_ipi(vcpu 1) = 12\n"
    ">> [      10.000 ..       11.000] us  domu1     cpu1  send(port 12) = 0\n"
)


def test_ports_cpus_and_counts_do_not_matter() -> None:
    assert of(LEAK) == of(LEAK_ELSEWHERE)
    assert (of(LEAK).kind, of(LEAK).site) == ("hang", "evtchn_write_lock")
    waits = LEAK.replace(
        "CPU0 spins in queue_read_lock_slowpath", "CPU0 spins in _write_lock: lock word = 3"
    )
    assert of(waits) == of(LEAK)
    assert of(UNDERFLOW).shape.startswith("below zero")
    assert of("lost (3 in all)", STORY) == of("lost (1 in all)", STORY.replace("12", "99"))
    assert of("lost (3 in all)", STORY).shape == "send"
    assert of("round 17: the unmask was dropped") == of("round 4: the unmask was dropped")


def test_a_line_number_moves_with_every_commit() -> None:
    failed = "xen console at 9.1 s: assertion: Assertion 'old == FREE' failed at event.h:{}"
    assert of(failed.format(120)) == of(failed.format(122))
    assert of(failed.format(120)).site == "event.h"
    assert of(failed.format(120)) != of(failed.format(120).replace("FREE", "UNBOUND"))
    bug = "xen console at 9.1 s: bug: Xen BUG at spinlock.c:{}"
    assert of(bug.format(1)) == of(bug.format(2)) != of(bug.format(2).replace("spin", "rw"))


@pytest.mark.parametrize(
    "other",
    [
        UNDERFLOW,
        "Xen hangs: CPU1 spins in queue_read_lock_slowpath",
        "xen console at 9.1 s: panic: Panic on CPU 0: out of memory",
        "lost (3 in all)",
        "the event did not reach the other end",
    ],
)
def test_another_failure_is_another_one(other: str) -> None:
    assert of(other, STORY) != of(LEAK)


def test_the_same_words_of_another_test_are_another_failure() -> None:
    assert of(LEAK, name="duel") != of(LEAK, name="load")


def test_it_says_what_it_is() -> None:
    assert str(of(LEAK, name="poll")).startswith("poll: hang in evtchn_write_lock (one writer + N")
