# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs and formulas are checked: what is written wrongly is refused, with where and what."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model.explore.formula import FormulaError, check, compile_numpy, to_promela
from harness.model.explore.program import (
    Never,
    Program,
    ProgramError,
    Role,
    System,
    Variable,
    on,
    rmw,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("u(L == W", "not a formula"),
        ("L = W", "not a formula"),
        ("L < W < X", "cannot stand in a formula"),
        ("L is W", "cannot stand in a formula"),
        ("L / 2 == W", "'L / 2' cannot stand in a formula"),
        ("v(L) == W", r"'v\(L\)' cannot stand in a formula"),
        ("u(L) == X", "X is no variable, constant or tag here; declared are L, W"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words):
        check(text, {"L", "W"})


def test_a_formula_is_evaluated_as_c_would() -> None:
    check("", set())  # always
    assert compile_numpy("u(L) < W")({"L": 5, "W": 8})
    assert not compile_numpy("u(L) < W")({"L": -1, "W": 8})  # unsigned: 0xffffffff
    assert to_promela("not (L < W) or L == -1", str.lower) == "(!((l < w)) || (l == (-1)))"


def system(*, when: str = "", then: str = "leave", never: str = "inside > 1", **adds: Any):  # type: ignore[no-untyped-def]
    steps = (
        rmw("enter", "L", "", on(when, then, **(adds or {"L": 1}))),
        rmw("leave", "L", "", on("", "enter", L=-1), tags=("inside",)),
    )
    return System(
        "small", (Role(Program("p", steps), 2),), (Variable("L"),), never=(Never("n", never),)
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"when": "M == 0"}, "small: program 'p', step 'enter': 'M == 0': M is no variable"),
        ({"when": "L =="}, "step 'enter': 'L ==': not a formula"),
        ({"then": "out"}, "step 'enter': goes to 'out'; the steps are enter, leave"),
        ({"M": 1}, "step 'enter': writes 'M', which is no variable"),
        ({"L": "-W"}, "step 'enter': adds '-W', which is no constant"),
        ({"never": "outside > 1"}, "small: never 'n': 'outside > 1': outside is no variable"),
    ],
)
def test_what_is_wrong_with_a_system_is_told(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(ProgramError, match=words):
        system(**wrong)


def test_tags_variables_and_constants_may_be_named() -> None:
    assert system(when="L == 0 and inside == 0 and busy == 0").name == "small"


def test_two_steps_of_one_name_are_refused() -> None:
    step = rmw("a", "L", "", on("", "a"))
    with pytest.raises(ProgramError, match="step 'a': there is another step of this name"):
        System("twice", (Role(Program("p", (step, step)), 1),), (Variable("L"),))


def test_an_edit_of_a_step_that_is_not_there_is_refused() -> None:
    program = Program("p", (rmw("a", "L", "", on("", "a")),))
    with pytest.raises(ProgramError, match="program 'p': no step 'b' to change; it has a"):
        program.edit("b", lambda step: step)
