# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from harness.agent.workload import WEIGHTS, Action, digest, steps

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)


@given(U64, U32, U32, st.integers(1, 256))
def test_the_same_seed_gives_the_same_workload(s: int, agent: int, thread: int, n: int) -> None:
    assert digest(s, agent, thread, n, 50) == digest(s, agent, thread, n, 50)
    assert all(step.channel < n for step in islice(steps(s, agent, thread, n), 50))


@given(st.sets(st.tuples(U64, st.integers(0, 9), st.integers(0, 63)), min_size=2, max_size=20))
def test_another_seed_domain_or_thread_gives_another(who: set[tuple[int, int, int]]) -> None:
    assert len({digest(*key, 26, 50) for key in who}) == len(who)


def test_actions_come_as_often_as_they_should() -> None:
    count = 64_000
    seen = Counter(step.action for step in islice(steps(1, 0, 0, 26), count))
    for action in Action:
        expected = count * WEIGHTS[action] / 128
        assert abs(seen[action] - expected) < 5 * expected**0.5
