# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the caller of an inlined try go on differently when it was let in?

What such a copy returns is in no register that is known: it may only be where the CPU goes on.
So what the caller does behind it is run, from each end of the copy, and the two are compared.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from harness.arch import Arch
from harness.binary import arm64, x86
from harness.binary.copies import Text
from harness.binary.machine import NotUnderstoodError, State, successors
from harness.binary.tables import Table
from harness.binary.values import UNKNOWN
from harness.hypervisor.dwarf.inlined import Copy

_MOST = 600  # places that are looked at, from each end


def alike(
    text: Text, table: Table, copy: Copy, let_in: Collection[State], refused: Collection[State]
) -> bool:
    """Say whether the same comes after ``let_in``, ends of ``copy``, and after ``refused``.

    It is not said of a caller whose ways cannot all be followed.
    """
    ours, all_ours = _places(text, table, copy, let_in)
    theirs, all_theirs = _places(text, table, copy, refused)
    return ours == theirs and all_ours and all_theirs


def _places(
    text: Text, table: Table, copy: Copy, ends: Collection[State]
) -> tuple[set[tuple[int, int | None]], bool]:
    """Return where the CPU comes from ``ends``, with what is returned there, and if that is all.

    Another try, the same in a loop or a copy of it, is where it ends: it may let in whom this one
    refused.
    """
    tries = [c for c in text.copies(frozenset({copy.function})) if c.caller == copy.caller]
    result = (x86 if text.arch is Arch.X86_64 else arm64).RESULT
    places = set[tuple[int, int | None]]()
    complete = not any(text.contains(one, state.pc) for one in tries for state in ends)
    waiting = [replace(state, decided_by=frozenset(), exclusive=None) for state in ends]
    seen = set(waiting)
    while waiting:
        state = waiting.pop()
        instruction = text.instruction(state.pc)
        if instruction is None:
            complete = complete and text.is_trap(state.pc)
            continue
        places.add((state.pc, None))
        if any(text.contains(one, state.pc) for one in tries):
            continue
        try:
            ways = list(
                successors(
                    table,
                    instruction,
                    state,
                    lambda *_: False,
                    lambda _: (),
                    text.function_at,
                    names_values=False,
                )
            )
        except NotUnderstoodError:
            complete = False
            continue
        for way in ways:
            if way.state is None:
                continue
            if way.returned:
                value = dict(way.state.registers).get(result, UNKNOWN)
                places.add((state.pc, value.low(8)))
                continue
            after = replace(way.state, decided_by=frozenset(), exclusive=None)
            if after not in seen and len(seen) < _MOST:
                seen.add(after)
                waiting.append(after)
            complete = complete and len(seen) < _MOST
    return places, complete
