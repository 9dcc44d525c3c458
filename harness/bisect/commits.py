# SPDX-License-Identifier: GPL-2.0-or-later
"""The commits between good and bad, and which of them contains which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Commits:
    """The commits that ``git rev-list bad ^good`` lists, and the good end.

    A revision contains the culprit if it is the culprit or a descendant of it.  It is bad then.
    """

    good: str
    ids: tuple[str, ...]  # parents before children; the last is the bad end
    parents: Mapping[str, Sequence[str]]  # of every one of ids; some may be good ones
    inert: frozenset[str] = frozenset()  # build the same as a parent: none can be the culprit

    @property
    def bad(self) -> str:
        """The bad end."""
        return self.ids[-1]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each revision in ``contains``: in the order of ``ids``, the good end last."""
        return {name: number for number, name in enumerate((*self.ids, self.good))}

    @cached_property
    def contains(self) -> Bools:
        """Whether the revision of a row contains the commit of a column.

        The last column stands for a culprit before the good end: every revision contains it.
        """
        count = len(self.ids)
        matrix = np.zeros((count + 1, count + 1), np.bool_)
        for row, name in enumerate(self.ids):
            matrix[row, row] = True
            for parent in self.parents[name]:
                if parent != self.good and parent in self.row_of:
                    matrix[row] |= matrix[self.row_of[parent]]
        matrix[:, count] = True
        return matrix
