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

    def __init__(
        self,
        busy: float,
        seed: int,
        *,
        pending: bool,
        elsewhere: float = 0.0,
        slowest: int = 60,
    ) -> None:
        """``slowest``: how long a poll that returns at once takes at most, in us."""
        self._slowest = slowest
        self._busy, self._chance, self._pending = busy, Random(seed), pending
        self._elsewhere = elsewhere  # how often another vCPU's event ends a sleep
        self.polls = 0

    def __call__(self, timeout: int) -> Answer:
        self.polls += AT_ONCE
        polls = [self._poll(timeout) for _ in range(AT_ONCE)]
        woken, took = (",".join(map(str, column)) for column in zip(*polls, strict=True))
        return Answer(True, {"woken": woken, "took": took})

    def _poll(self, timeout: int) -> tuple[int, int]:
        """Return whether an interrupt came, and how long the poll took, in us."""
        interrupted = self._chance.random() < self._busy
        slow = 3000 * self._chance.random() if interrupted else 0.0  # another has the CPU
        if timeout == FOREVER and not self._pending:
            if self._chance.random() < self._elsewhere:  # an event of another vCPU
                return int(interrupted), int(4000 * self._chance.random())
            return 1, int(4000 * self._chance.random())
        return int(interrupted), int(slow + self._chance.uniform(20, self._slowest))


@given(st.integers(0, 2**32), st.floats(0, 0.95), st.booleans())
def test_a_port_that_is_not_pending_is_never_said_to_be(
    seed: int, busy: float, expected: bool
) -> None:
    assert sleeps(Vcpu(busy, seed, pending=False), expected=expected) in (True, None)


def test_an_event_of_another_vcpu_ends_a_sleep_and_makes_no_port_pending() -> None:
    for busy in (0.0, 0.5, 0.8):
        for elsewhere in (0.1, 0.5, 1.0):
            told = [
                sleeps(Vcpu(busy, seed, pending=False, elsewhere=elsewhere)) for seed in range(500)
            ]
            assert told.count(False) == 0, (busy, elsewhere)


def test_a_poll_of_no_port_sleeps_on_a_very_busy_machine_too() -> None:
    """Seen beside compilations: 1 to 6 % of the sleeps were ended by an event whose interrupt
    nobody had counted yet, hardly any other poll met no interrupt, and it took as long."""
    for busy in (0.5, 0.9, 0.97):
        for elsewhere in (0.03, 0.06):
            told = [
                sleeps(
                    Vcpu(busy, seed, pending=False, elsewhere=elsewhere, slowest=4000),
                    expected=True,
                    others_wake=True,
                )
                for seed in range(500)
            ]
            assert told.count(False) == 0, (busy, elsewhere)
    at_once = [sleeps(Vcpu(0.6, s, pending=True), others_wake=True) for s in range(500)]
    assert at_once.count(False) == 500


def test_a_pending_port_is_found_on_a_busy_machine() -> None:
    for busy in (0.0, 0.5, 0.9):
        wrong = sum(bool(sleeps(Vcpu(busy, seed, pending=True))) for seed in range(2000))
        assert wrong == 0, busy


def test_nothing_is_said_where_every_poll_meets_an_interrupt() -> None:
    for pending in (True, False):
        assert sleeps(Vcpu(1.0, 1, pending=pending)) is None


def test_a_quiet_machine_is_asked_little() -> None:
    vcpu = Vcpu(0.0, 1, pending=True)
    assert sleeps(vcpu) is False and vcpu.polls == 2 * AT_ONCE
    vcpu = Vcpu(0.0, 1, pending=False)
    assert sleeps(vcpu, expected=True) is True and vcpu.polls == 2 * AT_ONCE
    vcpu = Vcpu(0.0, 1, pending=False)
    assert sleeps(vcpu) is True and vcpu.polls == 8 * AT_ONCE
