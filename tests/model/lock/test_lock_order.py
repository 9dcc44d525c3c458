# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock order: which trees and flavours can deadlock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.lock.lock_order import NEW_TREE, OLD_TREE, Edge, XenTree, deadlocks, edges
from harness.model.lock.locks import LOCKS


@pytest.mark.parametrize("flavour", LOCKS)
def test_lock_order(flavour: str) -> None:
    assert not deadlocks(edges(flavour, NEW_TREE))
    abba = deadlocks(edges(flavour, OLD_TREE))
    assert abba and {"channel lock", "vm_event lock"} <= {e.held for e in abba[0]}
    unordered = deadlocks(edges(flavour, XenTree(False, by_address=False)))
    assert {len(cycle) for cycle in unordered} == {2}
    recursive = deadlocks(edges(flavour, XenTree(False, irqs_off=False)))
    assert bool(recursive) is (flavour == "spinlock")


def test_a_try_breaks_a_cycle() -> None:
    ring = [Edge("a", "b", True, ""), Edge("b", "c", True, ""), Edge("c", "a", True, "")]
    assert [len(cycle) for cycle in deadlocks(ring)] == [3]
    assert not deadlocks([*ring[:2], replace(ring[2], waits=False)])
    assert [len(cycle) for cycle in deadlocks([*ring, Edge("b", "a", True, "")])] == [2, 3]
