# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of states, for the search: which of these states are new?"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.model.explore.state_space import Keys, Mask

_DENSE_LIMIT = 1 << 28  # keys; a flat table has a byte for each
_EMPTY = -1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads consecutive keys


class StateSet(Protocol):
    """A set of the keys of states.  No argument holds a key twice."""

    def add(self, keys: Keys) -> Keys:
        """Add ``keys``; return those that were not there."""

    def mark(self, keys: Keys) -> Keys:
        """Mark those of ``keys`` that are in the set; return those that were not marked before."""

    def marked(self, keys: Keys) -> Mask:
        """Say which of ``keys`` are marked."""

    @property
    def bytes(self) -> int:
        """Memory in use, in bytes."""


def empty_state_set(size: int) -> StateSet:
    """Return an empty set for keys below ``size``: a flat table, or a hash table if that is big."""
    return DenseStateSet(size) if size <= _DENSE_LIMIT else HashedStateSet()


class DenseStateSet:
    """A flat table: one byte for every possible key.  Memory is used only where states are."""

    def __init__(self, size: int) -> None:
        self._flags = np.zeros(size, np.uint8)  # 0: not in the set, 1: in it, 2: in it and marked

    def add(self, keys: Keys) -> Keys:
        new: Keys = keys[self._flags[keys] == 0]
        self._flags[new] = 1
        return new

    def mark(self, keys: Keys) -> Keys:
        new: Keys = keys[self._flags[keys] == 1]
        self._flags[new] = 2
        return new

    def marked(self, keys: Keys) -> Mask:
        found: Mask = self._flags[keys] == 2
        return found

    @property
    def bytes(self) -> int:
        return int(self._flags.nbytes)


class HashedStateSet:
    """A hash table: open addressing with linear probing, many keys at a time."""

    def __init__(self, bits: int = 16) -> None:
        self._table: NDArray[np.int64] = np.full(1 << bits, _EMPTY, np.int64)
        self._bits = bits
        self._count = 0
        self._marked: HashedStateSet | None = None

    def _slots(self, keys: Keys) -> NDArray[np.int64]:
        shift = np.uint64(64 - self._bits)
        return ((keys.astype(np.uint64) * _MULTIPLIER) >> shift).astype(np.int64)

    def add(self, keys: Keys) -> Keys:
        while (self._count + keys.size) * 2 > self._table.size:
            self._grow()
        fresh = self._insert(keys)
        self._count += fresh.size
        return fresh

    def _insert(self, keys: Keys) -> Keys:
        slots = self._slots(keys)
        pending = np.arange(keys.size)
        fresh = np.zeros(keys.size, np.bool_)
        last = self._table.size - 1
        while pending.size:
            wanted, at = keys[pending], slots[pending]
            empty = self._table[at] == _EMPTY
            self._table[at[empty]] = wanted[empty]
            there = self._table[at] == wanted
            fresh[pending[there & empty]] = True
            pending = pending[~there]
            slots[pending] = (slots[pending] + 1) & last
        return keys[fresh]

    def mark(self, keys: Keys) -> Keys:
        if self._marked is None:
            self._marked = HashedStateSet(self._bits)
        return self._marked.add(keys[self._contains(keys)])

    def marked(self, keys: Keys) -> Mask:
        if self._marked is None:
            return np.zeros(keys.size, np.bool_)
        return self._marked._contains(keys)

    def _contains(self, keys: Keys) -> Mask:
        slots = self._slots(keys)
        pending = np.arange(keys.size)
        found = np.zeros(keys.size, np.bool_)
        last = self._table.size - 1
        while pending.size:
            held = self._table[slots[pending]]
            there = held == keys[pending]
            found[pending[there]] = True
            pending = pending[~there & (held != _EMPTY)]
            slots[pending] = (slots[pending] + 1) & last
        return found

    def _grow(self) -> None:
        old = self._table[self._table != _EMPTY]
        self._bits += 1
        self._table = np.full(1 << self._bits, _EMPTY, np.int64)
        self._insert(old)

    @property
    def bytes(self) -> int:
        return int(self._table.nbytes) + (self._marked.bytes if self._marked else 0)
