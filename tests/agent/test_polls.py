# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of a poll, by the interrupts that came during many of them."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from harness.agent.polls import AT_ONCE, FOREVER, sleeps
from harness.agent.wire import Answer


class Vcpu:
    """A vCPU that takes an interrupt during a ``busy`` share of its polls, and to end a sleep."""

    def __init__(self, busy: float, seed: int, *, pending: bool) -> None:
        self._busy, self._chance, self._pending = busy, Random(seed), pending
        self.polls = 0

    def __call__(self, timeout: int) -> Answer:
        self.polls += AT_ONCE
        slept = timeout == FOREVER and not self._pending
        woken = [slept or self._chance.random() < self._busy for _ in range(AT_ONCE)]
        return Answer(True, {"woken": ",".join(str(int(each)) for each in woken)})


@given(st.integers(0, 2**32), st.floats(0, 0.95), st.booleans())
def test_a_port_that_is_not_pending_is_never_said_to_be(
    seed: int, busy: float, expected: bool
) -> None:
    assert sleeps(Vcpu(busy, seed, pending=False), expected=expected) in (True, None)


def test_a_pending_port_is_found_on_a_busy_machine() -> None:
    for busy in (0.0, 0.5, 0.9):
        wrong = sum(bool(sleeps(Vcpu(busy, seed, pending=True))) for seed in range(2000))
        assert wrong == 0, busy


def test_nothing_is_said_where_every_poll_meets_an_interrupt() -> None:
    for pending in (True, False):
        assert sleeps(Vcpu(1.0, 1, pending=pending)) is None


def test_a_quiet_machine_is_asked_little() -> None:
    vcpu = Vcpu(0.0, 1, pending=True)
    assert sleeps(vcpu) is False and vcpu.polls == AT_ONCE
    vcpu = Vcpu(0.0, 1, pending=False)
    assert sleeps(vcpu, expected=True) is True and vcpu.polls == 2 * AT_ONCE
    vcpu = Vcpu(0.0, 1, pending=False)
    assert sleeps(vcpu) is True and vcpu.polls == 4 * AT_ONCE
