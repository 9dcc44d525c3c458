# SPDX-License-Identifier: GPL-2.0-or-later
"""Programmes in bytes: as the guest has them, and back."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.build import BARE_SOURCES, SOURCES, compiler
from harness.arch import Arch
from harness.fuzz.programme import (
    MAX_STEPS,
    SEEN,
    STEP,
    TIMED,
    Bit,
    Flag,
    Seen,
    SeenBits,
    Step,
    TimedSeen,
    What,
    decode,
    decode_seen,
    decode_timed,
    digest,
    encode,
    mark,
    marks,
)

_BYTE, _WORD = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF)
STEPS = st.builds(
    Step, st.sampled_from(What).map(int), _BYTE, _BYTE, _BYTE, port=_WORD, value=_WORD
)
_TIME = st.integers(0, (1 << 64) - 1)
_SEEN = st.builds(Seen, st.integers(-(1 << 31), (1 << 31) - 1), _WORD, _WORD, _WORD)


@settings(deadline=None, max_examples=50)
@given(st.lists(STEPS))
def test_steps_come_back_as_they_were(steps: list[Step]) -> None:
    data = encode(steps)
    assert len(data) == len(steps) * STEP.size
    assert decode(data) == steps


@settings(deadline=None, max_examples=50)
@given(st.lists(_SEEN))
def test_what_was_seen_comes_back_as_it_was(seen: list[Seen]) -> None:
    assert decode_seen(b"".join(SEEN.pack(*each) for each in seen)) == seen


@settings(deadline=None, max_examples=50)
@given(st.lists(st.builds(TimedSeen, _SEEN, _TIME, _TIME, _WORD, _WORD)))
def test_and_with_its_times(seen: list[TimedSeen]) -> None:
    data = b"".join(TIMED.pack(*each.seen, *each[1:]) for each in seen)
    assert decode_timed(data) == seen


@settings(deadline=None, max_examples=50)
@given(st.lists(STEPS), st.lists(STEPS))
def test_a_digest_tells_programmes_apart(one: list[Step], other: list[Step]) -> None:
    assert (digest(one) == digest(other)) is (one == other)


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 131071), max_size=12), st.sets(st.integers(0, 131071), max_size=12))
def test_the_sum_of_marks_tells_sets_of_ports_apart(one: set[int], other: set[int]) -> None:
    assert (marks(sorted(one)) == marks(sorted(other, reverse=True))) is (one == other)
    assert all(0 <= mark(port) < 1 << 32 for port in one)


def _c(name: str) -> str:
    """Return the name that ``name`` has in C."""
    known = SOURCES.joinpath("steps.h").read_text()
    own = f"STEP_{name}"
    return own if re.search(rf"\b{own}\b", known) else f"EVTCHNOP_{name}"


def _assertions() -> str:
    lines = ["#include <stddef.h>", '#include "programme.h"', '#include "events.h"']
    for kind, layout in (("step", STEP), ("seen", SEEN), ("timed_seen", TIMED)):
        lines.append(f'_Static_assert(sizeof(struct {kind}) == {layout.size}, "{kind}");')
    places = {"what": 0, "flags": 1, "slot": 2, "number": 3, "port": 4, "value": 8}
    lines += [
        f'_Static_assert(offsetof(struct step, {name}) == {at}, "{name}");'
        for name, at in places.items()
    ]
    lines += [f'_Static_assert({_c(what.name)} == {what.value}, "{what.name}");' for what in What]
    lines += [f'_Static_assert(STEP_{f.name} == {f.value}, "{f.name}");' for f in Flag]
    lines += [f'_Static_assert(SEEN_{b.name} == {b.value}, "{b.name}");' for b in SeenBits]
    lines += [f'_Static_assert(BIT_{b.name} == {b.value}, "{b.name}");' for b in Bit]
    for name, at in (("magic", 0), ("number", 8), ("at", 16)):  # harness/fuzz/progress.py
        lines.append(f'_Static_assert(offsetof(struct meeting_place, {name}) == {at}, "{name}");')
    lines.append(f'_Static_assert(MAX_STEPS == {MAX_STEPS}, "steps");')
    return "\n".join(lines) + "\n"


def _compiled(arch: Arch, text: str) -> subprocess.CompletedProcess[str]:
    include = [f"-I{BARE_SOURCES}", f"-I{SOURCES}"]
    return subprocess.run(
        [compiler(arch), "-std=c11", "-fsyntax-only", *include, "-xc", "-"],
        input=text,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arch", Arch)
def test_c_and_python_have_the_same_layouts_and_numbers(arch: Arch) -> None:
    done = _compiled(arch, _assertions())
    assert done.returncode == 0, done.stderr


def test_a_difference_would_be_seen() -> None:
    done = _compiled(Arch.X86_64, _assertions().replace("STEP_POLL == 16", "STEP_POLL == 17"))
    assert done.returncode != 0 and "POLL" in done.stderr


def test_c_knows_no_step_that_python_does_not() -> None:
    header = SOURCES.joinpath("steps.h").read_text()
    known = {f"STEP_{each.name}" for kind in (What, Flag) for each in kind}
    assert set(re.findall(r"\bSTEP_[A-Z_]+(?= =)", header)) <= known
