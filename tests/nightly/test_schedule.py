# SPDX-License-Identifier: GPL-2.0-or-later
"""Which cell is next: by priority, then by waiting time; no busy host, and none too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.config.nightly import Cell, PlanHost, Suite, Xen
from harness.nightly.schedule import WaitingCell, expected_seconds, next_cell
from harness.nightly.schema import CellRow


def _waiting(host: str, suite: str, *, priority: int = 0, attempts: int = 0) -> WaitingCell:
    cell = Cell(PlanHost(name=host), Xen(name="x"), Suite(name=suite, priority=priority))
    row = CellRow(
        1, "n", host, "x", suite, "waiting", "", "", "", None, None, "", "", "", "", "", None, 0
    )
    return WaitingCell(row, cell, attempts)


def test_the_order() -> None:
    cells = [
        _waiting("a", "plain"),
        _waiting("a", "never", priority=0),
        _waiting("a", "failed", attempts=1),
        _waiting("a", "urgent", priority=5),
        _waiting("a", "old"),
    ]
    last = {("a", "x", "plain"): ("2026-03", 1.0), ("a", "x", "old"): ("2026-01", 1.0)}
    order = []
    while cells:
        chosen = next_cell(cells, set(), last, 1e6)
        assert chosen is not None
        order.append(chosen.cell.suite.name)
        cells.remove(chosen)
    assert order == ["urgent", "never", "old", "plain", "failed"]


def test_a_busy_host_waits_and_what_is_too_long_is_passed_over() -> None:
    cells = [_waiting("a", "first", priority=9), _waiting("b", "long", priority=5)]
    cells.append(_waiting("b", "short"))
    last = {("b", "x", "long"): ("n", 900.0), ("b", "x", "short"): ("n", 50.0)}
    chosen = next_cell(cells, {"a"}, last, 100.0)
    assert chosen is not None and chosen.cell.suite.name == "short"
    assert next_cell(cells, {"a", "b"}, last, 1e6) is None


def test_a_run_that_nobody_has_timed_is_guessed_from_its_load() -> None:
    long = _waiting("a", "s").cell
    assert expected_seconds(long, {}) > long.suite.duration
    assert expected_seconds(long, {("a", "x", "s"): ("n", 7.0)}) == 7.0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.integers(0, 3)), max_size=12),
    st.sets(st.sampled_from("abc")),
    st.floats(0, 300),
)
def test_laws(asked: list[tuple[str, int, int]], busy: set[str], left: float) -> None:
    cells = [
        _waiting(host, f"s{number}", priority=priority, attempts=attempts)
        for number, (host, priority, attempts) in enumerate(asked)
    ]
    chosen = next_cell(cells, busy, {}, left)
    fitting = [
        cell
        for cell in cells
        if cell.cell.host.name not in busy and expected_seconds(cell.cell, {}) <= left
    ]
    if chosen is None:
        assert not fitting
    else:
        assert chosen in fitting
        assert chosen.cell.priority == max(cell.cell.priority for cell in fitting)
