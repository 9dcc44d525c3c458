# SPDX-License-Identifier: GPL-2.0-or-later
"""The commits between the two ends, and which of them contains which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Commits:
    """The commits that ``git rev-list NEWER ^OLDER`` lists, and the older end.

    One of them is the culprit: it brought a failure in, so that a revision is bad which contains
    it (is it, or a descendant of it).  Or, if ``mends``, it took the failure away: then a revision
    is bad which does not contain it.
    """

    older: str
    ids: tuple[str, ...]  # parents before children; the last is the newer end
    parents: Mapping[str, Sequence[str]]  # of every one of ids; some may be good ones
    inert: frozenset[str] = frozenset()  # build the same as a parent: none can be the culprit
    mends: bool = False

    @property
    def newer(self) -> str:
        """The newer end."""
        return self.ids[-1]

    @property
    def bad(self) -> str:
        """The end that has to fail."""
        return self.older if self.mends else self.newer

    @property
    def good(self) -> str:
        """The end that has to pass."""
        return self.newer if self.mends else self.older

    @property
    def names(self) -> tuple[str, ...]:
        """The revisions in the order of the rows of ``contains``: the older end comes last."""
        return (*self.ids, self.older)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each revision in ``contains``."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def contains(self) -> Bools:
        """Whether the revision of a row contains the commit of a column.

        The last column stands for a culprit before the older end: every revision contains it.
        """
        count = len(self.ids)
        matrix = np.zeros((count + 1, count + 1), np.bool_)
        for row, name in enumerate(self.ids):
            matrix[row, row] = True
            for parent in self.parents[name]:
                if parent != self.older and parent in self.row_of:
                    matrix[row] |= matrix[self.row_of[parent]]
        matrix[:, count] = True
        return matrix

    @cached_property
    def is_bad(self) -> Bools:
        """Whether the revision of a row is bad if the commit of a column is the culprit.

        The last column stands for a culprit outside: before the older end, or, if ``mends``, after
        the newer one.  Every revision is bad then.
        """
        if not self.mends:
            return self.contains
        matrix = ~self.contains
        matrix[:, -1] = True
        return matrix
