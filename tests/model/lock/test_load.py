# SPDX-License-Identifier: GPL-2.0-or-later
"""A formula with a mistake is noticed when the module that has it is imported."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from harness.model.explore.program import ProgramError

MISTAKES = [
    ("lock.counter", '"u(L) == W"', '"u(L) == X"', "lock counter: program 'write', step 'spin'"),
    ("lock.counter", '"L < 0 or', '"L < 0 or or', "lock counter: never 'counter never"),
    ("lock.counter", '"L == 0",\n', '"M == 0",\n', "lock counter: rest: 'M == 0'"),
    ("lock.rwlock", '"wmode == 0", "drain"', '"wmode = 0", "drain"', "step 'mark': 'wmode = 0'"),
    (
        "lock.rwlock",
        '"wmode == 0", "add"',
        '"wmode == 0", "ad"',
        "program 'tryread', step 'read': goes to 'ad'",
    ),
    ("lock.spinlock", "lock == 0", "locked == 0", "lock spinlock: program 'write', step 'take'"),
    ("lock.scenarios", '"usable == 1"', '"useable == 1"', "poll-unusable: program 'poll'"),
    ("lock.scenarios", '"notify == 1", ""', '"notify = 1", ""', "global-virq: program 'virq'"),
    ("lock.critical_sections", '"rx != ry"', '"rx != rz"', "'rx != rz': rz is no variable"),
    (
        "lock.mutants",
        '"u(L) >= W")',
        '"u(L) >= V")',
        "lock ge-for-eq: program 'write', step 'spin'",
    ),
    ("lock.predictions", "and irq > 0", "and iqr > 0", "interrupt: never 'mutual exclusion"),
    ("explore.litmus", '"r1 == 1 and x == 2"', '"r9 == 1"', "litmus test S: outcome 'r9 == 1'"),
]


@pytest.mark.parametrize(("name", "right", "wrong", "words"), MISTAKES)
def test_a_mistake_is_told_on_import(name: str, right: str, wrong: str, words: str) -> None:
    module = import_module(f"harness.model.{name}")
    assert module.__file__ is not None
    source = Path(module.__file__).read_text()
    assert right in source
    broken = compile(source.replace(right, wrong), module.__file__, "exec")
    copy = ModuleType(module.__name__)
    with pytest.raises(ProgramError) as raised:
        exec(broken, copy.__dict__)
    assert words in str(raised.value)
