# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.agent.clock import Clock, ClockReading, compare, reference

HZ = 1_000_000_000
DOM0 = Clock(HZ, 5_000, 0)


def reading(true_offset: int, remote: int, noise: int, error: int) -> ClockReading:
    """A comparison that is off by ``noise``, and knows that it may be off by ``error``."""
    return ClockReading(remote + true_offset + noise, remote, error, 0, HZ)


def nanoseconds(clock: Clock, ticks: int) -> float:
    return (ticks - clock.ticks_at_zero) * 1e9 / clock.tick_hz


def test_dom0_is_the_reference() -> None:
    before, after = (ClockReading(t, t, 0, 9, hz) for t, hz in ((100, 999), (10**9, 1_000)))
    assert reference(before, after) == Clock(1_000, 100, 0)


OFFSET = st.integers(-(1 << 40), 1 << 40)
ERROR = st.tuples(st.integers(0, 5_000), st.integers(-1000, 1000))


@given(OFFSET, ERROR, ERROR, st.integers(0, 20 * HZ))
def test_the_bound_holds_for_counters_of_one_rate(
    offset: int, first: tuple[int, int], second: tuple[int, int], when: int
) -> None:
    before, after = (
        reading(offset, remote, error * share // 1000, error)
        for remote, (error, share) in ((5_000, first), (20 * HZ, second))
    )
    clock = compare(before, after, DOM0)
    true = when - DOM0.ticks_at_zero
    assert abs(nanoseconds(clock, when + offset) - true) <= clock.error_ns + 0.001
    assert clock.error_ns <= min(first[0], second[0]) + 1


@given(OFFSET, st.integers(200, 5_000), st.integers(-100, 100), st.integers(0, 1000))
def test_the_bound_holds_for_counters_that_drift_apart(
    offset: int, ppm: int, noise: int, part: int
) -> None:
    span = 10 * HZ
    before = reading(offset, 5_000, noise, 100)
    after = reading(offset + span * ppm // 10**6, 5_000 + span, -noise, 100)
    clock = compare(before, after, DOM0)
    when = span * part // 1000  # since zero, by dom0's counter
    local = 5_000 + offset + when + when * ppm // 10**6
    assert abs(nanoseconds(clock, local) - when) <= clock.error_ns + 10
