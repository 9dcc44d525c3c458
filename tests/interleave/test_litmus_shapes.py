# SPDX-License-Identifier: GPL-2.0-or-later
"""Which access of a litmus test's thread may be made behind another one, by both of our rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.interleave.reorderings import Executed, may_be_late
from tests.real.litmus.machine import Guest, built
from tests.real.litmus.orders import accesses, keeps, orders
from tests.real.litmus.shapes import SHAPES, Shape

_ADDRESS = {"x": 0x1000, "y": 0x2000}
# Those with a thread of two accesses that ends with a plain store.
_STORE_LAST = tuple(
    shape
    for shape in SHAPES
    if any(len(thread) > 1 and thread[-1].startswith("str ") for thread in shape.threads)
)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return built(SHAPES, tmp_path_factory.mktemp("litmus"))


@pytest.mark.parametrize("shape", _STORE_LAST, ids=lambda shape: shape.name)
def test_what_may_come_behind_a_plain_store(guest: Guest, shape: Shape) -> None:
    compared = 0
    for thread in guest.threads[shape.name]:
        found = accesses(thread)
        if len(found) < 2 or found[1].instruction.mnemonic != "str":
            continue
        first, second = found
        at = {one.index: _ADDRESS[one.word] for one in found}
        through = thread[: second.index + 1]
        executed = [Executed(one, at.get(index)) for index, one in enumerate(through)]
        late = may_be_late(executed, _ADDRESS[second.word])
        assert (late is None) is keeps(thread, first, second)
        compared += 1
    assert compared


@pytest.mark.parametrize(
    ("name", "count"),
    [("MP", 24), ("MP+dmb+po", 12), ("MP+rel+acq", 6), ("MP+dmb+ctrl", 12), ("LB+ctrls", 6)],
)
def test_how_many_orders_there_are(guest: Guest, name: str, count: int) -> None:
    assert len(list(orders(guest.threads[name]))) == count


def test_the_models_outcomes_of_message_passing(tmp_path: Path) -> None:
    model = {shape.name: shape.model(tmp_path) for shape in SHAPES if shape.name.startswith("MP")}
    seen_flag_no_data = (0, 0, 1, 0, 1, 1)
    assert seen_flag_no_data in model["MP"]
    assert seen_flag_no_data not in model["MP+rel+acq"]
