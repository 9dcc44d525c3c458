# SPDX-License-Identifier: GPL-2.0-or-later
"""Can one CPU see the flag and miss the data behind it?  One side is lifted, the other in order."""

from __future__ import annotations

import functools
from dataclasses import replace

from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import (
    DONE,
    AtomicStep,
    Branch,
    Fence,
    Never,
    Program,
    Role,
    System,
    Variable,
    assign,
    load,
    store,
)
from harness.model.explore.trace import TraceStep
from harness.model.explore.weak_memory import explore_weak

_CLAIM = "who sees the flag sees the data"
_IN_ORDER = "as it should be, with a barrier"


@functools.lru_cache(maxsize=256)
def missed(
    writes: bool,
    flag_first: bool,
    ordered: bool,
    memory: MemoryModel,
    told: tuple[str, str],
) -> tuple[TraceStep, ...] | None:
    """Return how a CPU under ``memory`` sees the flag and misses the data; None: it cannot.

    ``writes``: the writer's side is lifted, else the reader's.  ``flag_first``: the order of its
    accesses in the program; ``ordered``: a barrier is between them; ``told``: what they are.
    """
    if writes:
        writer, reader = _writer(flag_first, ordered, told), _reader(True, (_IN_ORDER, _IN_ORDER))
    else:
        writer, reader = _writer(False, True, (_IN_ORDER, _IN_ORDER)), _reader(ordered, told)
    system = System(
        "published",
        (Role(writer, 1), Role(reader, 1)),
        (Variable("flag"), Variable("data")),
        never=(Never(_CLAIM, "seen == 1 and found == 0"),),
        returns_to_rest=False,
    )
    examples = explore_weak(system, memory).counterexamples
    return examples[0].trace if examples else None


def _writer(flag_first: bool, ordered: bool, told: tuple[str, str]) -> Program:
    words = ("flag", "data") if flag_first else ("data", "flag")
    names = tuple(f"write {word}" for word in words)
    first = store(names[0], words[0], told[0], assign(names[1], **{words[0]: 1}))
    second = store(names[1], words[1], told[1], assign(DONE, **{words[1]: 1}))
    return Program("writer", (_before_barrier(first, ordered, Fence.WRITE), second))


def _reader(ordered: bool, told: tuple[str, str]) -> Program:
    branches = (Branch("flag == 1", "read data"), Branch("flag == 0", DONE))
    first = replace(load("read flag", "flag", told[0], *branches), observe="seen")
    second = replace(load("read data", "data", told[1], Branch("", DONE)), observe="found")
    return Program("reader", (_before_barrier(first, ordered, Fence.READ), second))


def _before_barrier(step: AtomicStep, ordered: bool, fence: Fence) -> AtomicStep:
    return replace(step, after=fence) if ordered else step
