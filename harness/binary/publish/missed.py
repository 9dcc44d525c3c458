# SPDX-License-Identifier: GPL-2.0-or-later
"""Can one CPU see the flag and miss the data behind it?  One side is lifted, the other in order."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
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
_SET, _NOT_YET = "it is set", "it is not there yet"


@functools.lru_cache(maxsize=256)
def missed(
    writes: bool, flag_first: bool, ordered: bool, memory: MemoryModel
) -> tuple[TraceStep, ...]:
    """Return how a CPU under ``memory`` sees the flag and misses the data; () if it cannot.

    ``writes``: the writer's side is lifted, else the reader's.  ``flag_first``: the order of its
    accesses in the program; ``ordered``: a barrier is between them.
    """
    if writes:
        writer, reader = _writer(flag_first, ordered), _reader(True)
    else:
        writer, reader = _writer(False, True), _reader(ordered)
    system = System(
        "published",
        (Role(writer, 1), Role(reader, 1)),
        (Variable("flag"), Variable("data")),
        never=(Never(_CLAIM, "seen == 1 and found == 0"),),
        returns_to_rest=False,
    )
    examples = explore_weak(system, memory).counterexamples
    return examples[0].trace if examples else ()


def lines(
    trace: Sequence[TraceStep], writes: bool, told: Mapping[str, str], names: Mapping[str, str]
) -> tuple[str, ...]:
    """Return ``trace`` for people: who does what, in the order of events.

    ``told``: what the lifted side does, ``names``: what they are called; each by "flag" and
    "data".
    """
    lifted = "writer" if writes else "reader"
    return tuple(_line(step, step.thread == lifted, told, names) for step in trace)


def _line(
    step: TraceStep, is_lifted: bool, told: Mapping[str, str], names: Mapping[str, str]
) -> str:
    does, _, what = step.step.partition(" ")
    early = ""
    if "EARLY" in step.access:
        early = f", before its own {does} of {names['data' if what == 'flag' else 'flag']}"
    line = told[what] if is_lifted else f"another CPU {does}s {names[what]}"
    seen = f": {_SET if what == 'flag' else _NOT_YET}" if does == "read" else ""
    return f"{line}{early}{seen}"


def _writer(flag_first: bool, ordered: bool) -> Program:
    words = ("flag", "data") if flag_first else ("data", "flag")
    names = tuple(f"write {word}" for word in words)
    first = store(names[0], words[0], "", assign(names[1], **{words[0]: 1}))
    second = store(names[1], words[1], "", assign(DONE, **{words[1]: 1}))
    return Program("writer", (_before_barrier(first, ordered, Fence.WRITE), second))


def _reader(ordered: bool) -> Program:
    branches = (Branch("flag == 1", "read data"), Branch("flag == 0", DONE))
    first = replace(load("read flag", "flag", "", *branches), observe="seen")
    second = replace(load("read data", "data", "", Branch("", DONE)), observe="found")
    return Program("reader", (_before_barrier(first, ordered, Fence.READ), second))


def _before_barrier(step: AtomicStep, ordered: bool, fence: Fence) -> AtomicStep:
    return replace(step, after=fence) if ordered else step
