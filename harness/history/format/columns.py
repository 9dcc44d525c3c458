# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations as parallel arrays: what the checker works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

NEVER = int(np.iinfo(np.int64).max)  # the return time of an operation that is still in flight


@dataclass(frozen=True)
class Columns:
    """Operations in the order of their calls.

    ``call`` and ``ret`` are ns of reference time, not widened: the checker widens them by
    the error of the clocks it compares.  ``row`` names an operation for good: its position
    in the whole history.
    """

    row: Int64
    log: npt.NDArray[np.uint16]  # index into History.threads
    op: npt.NDArray[np.uint8]
    via: npt.NDArray[np.uint8]
    port: npt.NDArray[np.uint32]
    arg: npt.NDArray[np.uint32]
    result: npt.NDArray[np.int32]
    cpu: npt.NDArray[np.uint16]
    call: Int64
    ret: Int64  # NEVER: in flight, result unknown

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: npt.NDArray[Any] | slice) -> Columns:
        """Return the operations that ``which`` (indices, a mask or a slice) selects."""
        return Columns(*(getattr(self, name)[which] for name in NAMES))


NAMES: tuple[str, ...] = tuple(f.name for f in fields(Columns))


def concatenate(pieces: Sequence[Columns]) -> Columns:
    """Return ``pieces`` (at least one), one after the other."""
    return Columns(*(np.concatenate([getattr(p, name) for p in pieces]) for name in NAMES))
