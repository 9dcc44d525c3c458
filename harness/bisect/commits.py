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
    """What ``git rev-list bad ^good`` lists, and the good end.

    A bad commit is one that contains the culprit: is it, or has it among its ancestors.
    """

    good: str
    ids: tuple[str, ...]  # parents before children; the last is the bad end
    parents: Mapping[str, Sequence[str]]  # of every one of ids; some may be good ones
    inert: frozenset[str] = frozenset()  # builds the same as a parent: it cannot be the culprit

    @property
    def bad(self) -> str:
        """The bad end."""
        return self.ids[-1]

    @cached_property
    def place(self) -> dict[str, int]:
        """Row of every revision: that of ids, and the good end's, which comes last."""
        return {name: number for number, name in enumerate((*self.ids, self.good))}

    @cached_property
    def contains(self) -> Bools:
        """Whether the revision of a row contains the culprit of a column.

        The last column stands for a culprit before the good end: everything contains it.
        """
        count = len(self.ids)
        matrix = np.zeros((count + 1, count + 1), np.bool_)
        for row, name in enumerate(self.ids):
            matrix[row, row] = True
            for parent in self.parents[name]:
                if parent != self.good and parent in self.place:
                    matrix[row] |= matrix[self.place[parent]]
        matrix[:, count] = True
        return matrix
