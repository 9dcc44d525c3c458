# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the barriers of the binary are as strong as those that the model has."""

from __future__ import annotations

from collections.abc import Collection

from harness.arch import Arch
from harness.binary.events import Barrier
from harness.model.explore.program import Fence

_SUFFICIENT: dict[Fence, frozenset[Barrier]] = {
    Fence.NONE: frozenset(),
    Fence.FULL: frozenset({Barrier.FULL}),
    Fence.READ: frozenset({Barrier.FULL, Barrier.READ, Barrier.ACQUIRE, Barrier.ACQUIRE_PC}),
    Fence.WRITE: frozenset({Barrier.FULL, Barrier.WRITE, Barrier.STORES}),
}
WORDS = {
    Fence.FULL: "smp_mb()",
    Fence.READ: "smp_rmb()",
    Fence.WRITE: "smp_wmb()",
    Fence.NONE: "no barrier",
}


def is_before(arch: Arch, wanted: Fence, provided: Collection[Barrier]) -> bool:
    """Say whether ``provided`` orders an access after all earlier ones, as ``wanted`` does.

    A store-release is enough where the model has a full barrier in front of an atomic access: the
    load of that access may come early, but nobody writes the word between it and its store, so
    the access as a whole comes after what was before.  On x86 a store always comes after all that
    is earlier, and every step that the model has a barrier before makes one.
    """
    if wanted is Fence.NONE or arch is Arch.X86_64:
        return True
    return bool(set(provided) & (_SUFFICIENT[wanted] | {Barrier.RELEASE}))


def is_after(
    arch: Arch, wanted: Fence, provided: Collection[Barrier], loaded: bool = False
) -> bool:
    """Say whether ``provided`` orders later accesses after an access, as ``wanted`` does.

    On x86 only a store may come after a later access, a load: a full barrier must be there, unless
    the access only ``loaded``.
    """
    if wanted is Fence.NONE or (arch is Arch.X86_64 and (loaded or wanted is not Fence.FULL)):
        return True
    return bool(set(provided) & _SUFFICIENT[wanted])
