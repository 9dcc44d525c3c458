# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found out before: programmes make the same few operations again and again.

To hash a world takes longer than to look up what is known of it.  So it is hashed once, when it is
met; from then on an ``Interned`` stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.model.evtchn.domain import World

_MOST = 200_000  # that is remembered

_Found = TypeVar("_Found")


class Interned:
    """A world, the only one of those that are equal to it: it is compared by its identity."""

    __slots__ = ("world",)

    def __init__(self, world: World) -> None:
        self.world = world


class Memory:
    """Remembers worlds, and what was found by all that it depends on."""

    def __init__(self) -> None:
        self._worlds: dict[World, Interned] = {}
        self._found: dict[object, Any] = {}

    def one(self, world: World) -> Interned:
        """Return what stands for ``world`` and for all that are equal to it."""
        known = self._worlds.get(world)
        if known is None:
            known = self._worlds[world] = Interned(world)
        return known

    def remembered(self, key: object, find: Callable[[], _Found]) -> _Found:
        """Return what ``find`` returns; it is called only once for the same ``key``."""
        try:
            found: _Found = self._found[key]
        except KeyError:
            found = self._found[key] = find()
        return found

    def tidy(self) -> None:
        """Forget all if it has become much.  What was interned before stays what it is."""
        if len(self._found) > _MOST:
            self._found.clear()
            self._worlds.clear()
