# SPDX-License-Identifier: GPL-2.0-or-later
"""What a load has only chosen (csel), and which later stores wait for that load nevertheless.

A load whose address was chosen need not wait for the load that chose it, but a store that comes
after both does (herdtools7, aarch64hwreqs.cat: pick-ordered-before, and "pick-dep; lob; [W]").
The explorer knows only what is directly in front of an access, so the lifter says it of each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.model.explore.memory_model import Access, MemoryModel, Wait, accesses, wait
from harness.model.explore.program import AtomicStep, Dependencies, Fence


@dataclass(frozen=True)
class _Done:
    access: Access
    picked: frozenset[str]  # the steps that have chosen it, or something that it comes after
    picked_address: frozenset[str]  # those of them that have chosen its address
    data: frozenset[str] = frozenset()  # of a store: the steps its value is from, chosen or not


@dataclass(frozen=True)
class Chosen:
    """The accesses of a thread up to some point, in program order."""

    line: tuple[_Done, ...] = ()
    # By load: the steps that have chosen the value, through an own store of the same word.
    carried: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def then(
        self, step: AtomicStep, picked_address: frozenset[str], picked_data: frozenset[str]
    ) -> tuple[AtomicStep, Chosen]:
        """Return ``step`` with all that has chosen what it waits for, and the line with it.

        ``picked_address``, ``picked_data``: the steps that have chosen its address, and the value
        that it stores.
        """
        depends = step.depends or Dependencies()
        values = depends.address | depends.data | depends.way
        picked = depends.picked | self._of_values(values | depends.picked)
        step = replace(step, depends=replace(depends, picked=picked))
        data = depends.data | picked_data
        data |= self._of_values(data)
        address = picked_address | self._of_values(depends.address | picked_address)
        line, carried, waiting = self.line, dict(self.carried), picked
        for access in accesses(MemoryModel.ARM, step, step.branches[0]):
            waits = _behind(line, access)
            if access.reads:
                carried[access.name] = _stored_before(line, access.word)
                waits |= address | carried[access.name]
            else:
                waits |= picked
            if access.writes:
                waiting = waits
            elif access.kind is Fence.INSTRUCTIONS:
                waiting = picked.union(*(one.picked_address for one in line))
            stored = data if access.writes else frozenset[str]()
            line = (*line, _Done(access, waits, address, stored))
        step = replace(step, depends=replace(depends, picked=waiting))
        return step, Chosen(line, carried)

    def _of_values(self, steps: frozenset[str]) -> frozenset[str]:
        return frozenset[str]().union(*(self.carried.get(step, ()) for step in steps))


def _behind(line: tuple[_Done, ...], access: Access) -> frozenset[str]:
    """Return what has chosen an earlier access that ``access`` comes after."""
    found: set[str] = set()
    by_name = {one.access.name: one.picked for one in line if one.access.name}
    store: Access | None = None
    for one in line:
        if wait(MemoryModel.ARM, one.access, access) is Wait.YES:
            found |= one.picked
        if access.writes or access.kind is Fence.INSTRUCTIONS:  # addr; po; [W], addr; po; [ISB]
            found |= one.picked_address
            for name in one.access.address:
                found |= by_name.get(name, frozenset())
        if one.access.writes and one.access.word == access.word:
            store = one.access
    if store is not None and access.reads:  # (addr | data); [W]; the next read of the word
        for name in store.needs:
            found |= by_name.get(name, frozenset())
    return frozenset(found)


def _stored_before(line: tuple[_Done, ...], word: str) -> frozenset[str]:
    stores = [one for one in line if one.access.writes and one.access.word == word]
    return stores[-1].data if stores else frozenset()
