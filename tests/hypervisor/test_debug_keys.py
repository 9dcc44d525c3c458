# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen prints when a key is pressed, recorded from a real Xen that hung (poll-leak)."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.hypervisor.debug_keys import ANSWER, registers

GOLDEN = Path(__file__).parent / "golden" / "keys"


def lines(arch: str) -> list[str]:
    text = (GOLDEN / f"d-{arch}.log").read_text()
    return [line.removeprefix("(XEN) ") for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arch", "cpu", "pc", "registers_"),
    [
        ("arm64", 0, 0x2670A0, {"X00": 0xE60, "X28": 0, "FP": 0x80009FF87D20}),
        ("arm64", 1, 0x2078C4, {"X00": 0x80009FFB0240, "X01": 129, "LR": 0x207E0C}),
        ("x86_64", 0, 0xFFFFFFFF819ED23F, {"RAX": 1, "R15": 0}),
        ("x86_64", 1, 0xFFFF82D04020997F, {"RAX": 8193, "RDI": 0xFFFF83009FFC78C0}),
    ],
)
def test_every_cpu_is_where_xen_had_it(
    arch: str, cpu: int, pc: int, registers_: dict[str, int]
) -> None:
    seen = registers(lines(arch))
    assert [one.number for one in seen] == [0, 1]
    assert seen[cpu].pc == pc
    assert registers_.items() <= seen[cpu].registers.items()


def test_what_xen_was_doing_goes_before_what_its_guest_was() -> None:
    """CPU 1 is in the hypervisor on behalf of d0v0: both states are printed."""
    text = lines("arm64")
    assert sum("Dumping CPU1" in line for line in text) == 2
    (seen,) = [one for one in registers(text) if one.number == 1]
    assert "SP_EL0" not in " ".join(seen.registers) and seen.pc < 1 << 32


def test_words_of_a_stack_are_no_registers() -> None:
    state = ["*** Dumping CPU0 host state: ***", "PC:     00000000002078c4 f+0x1/0x2"]
    stack = ["Xen stack trace from sp=0:", "   X1: 0000000000000007"]
    (seen,) = registers(state + stack)
    assert seen.registers == {"PC": 0x2078C4}


@pytest.mark.parametrize(
    ("arch", "cpu", "at", "size", "words"),
    [
        ("arm64", 0, 0x80009FF87D20, 736, [0x80009FF87D40, 0x267530, 0x80009FFEC000]),
        ("x86_64", 1, 0xFFFF83009FBC7DD8, 552, [0xFFFF82D040209D9B, 0xFFFF83009FBC7EF8]),
        ("x86_64", 0, 0, 0, []),  # it runs its guest
    ],
)
def test_the_printed_stack_comes_along(
    arch: str, cpu: int, at: int, size: int, words: list[int]
) -> None:
    """It is all the memory of a server that there is."""
    seen = registers(lines(arch))[cpu]
    assert (seen.stack_at, len(seen.stack)) == (at, size)
    first = [int.from_bytes(seen.stack[n : n + 8], "little") for n in range(0, 32, 8)]
    assert first[: len(words)] == words


def test_a_dump_cut_short_tells_of_the_cpus_that_it_has() -> None:
    text = lines("x86_64")
    cut = next(n for n, line in enumerate(text) if "CPU1 host" in line)
    assert [one.number for one in registers(text[: cut + 1])] == [0]


def test_the_answer_is_known() -> None:
    assert ANSWER.search(lines("arm64")[0])
