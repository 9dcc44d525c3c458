# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen prints when a key is pressed, recorded from a real Xen: d from one that hung
(poll-leak), i from one whose interrupt 3 was bound and closed without pause."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.hypervisor.debug_keys import ANSWER, BoundInterrupt, interrupts, registers
from harness.verdict import LabError

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


def lines_of_i() -> list[str]:
    text = (GOLDEN / "i-x86_64.log").read_text()
    return [line.removeprefix("(XEN) ") for line in text.splitlines()]


def test_every_interrupt_is_as_xen_has_printed_it() -> None:
    (seen,) = interrupts(lines_of_i())
    assert [each.pirq for each in seen.bound] == [1, 3, 8, 9, 12, *range(415, 407, -1)]
    assert seen.unbound == {5, 6, 7, 10, 11, 13, 14, 15}, "0 and 4 are Xen's own"
    assert seen.of(9) == BoundInterrupt(9, 0, 9, pending=False, masked=False, held=False)
    assert seen.of(3) == BoundInterrupt(3, 0, 3, pending=None, masked=None, held=False)
    assert seen.of(415) == BoundInterrupt(24, 0, 415, pending=False, masked=False, held=False)
    assert seen.of(5) is None and seen.of(9, domid=1) is None


def test_an_interrupt_of_several_domains_with_a_security_label() -> None:
    line = (
        "   IRQ:  16 vec:c0 IO-APIC-level   status=010 aff:{0-3,8}/{1} "
        "Z=system_u:object_r:irq_t  in-flight=1 d0: 16(PMM),d32751:  7(?--)"
    )
    (seen,) = interrupts(["IRQ information:", line, "Direct vector information:"])
    assert seen.bound == (
        BoundInterrupt(16, 0, 16, pending=True, masked=True, held=True),
        BoundInterrupt(16, 32751, 7, pending=None, masked=False, held=False),
    )


def test_an_answer_that_was_cut_short_is_none() -> None:
    text = lines_of_i()
    assert interrupts(text[:-1]) == []
    assert len(interrupts(text[:9] + text + text)) == 2, "the first began, and was not ended"


@pytest.mark.parametrize("letters", ["(X--)", "(-X-)", "(--?)", "(--", "()"])
def test_a_state_that_xen_never_prints_is_an_error(letters: str) -> None:
    text = [line.replace("(??-)", letters) for line in lines_of_i()]
    with pytest.raises(LabError, match="IRQ 3 in no state that Xen prints"):
        interrupts(text)


def test_an_answer_in_the_words_of_4_11_and_4_12() -> None:
    lines = [
        "IRQ information:",
        "   IRQ:   0 affinity:1 vec:f0 type=IO-APIC-edge    status=00000000 timer_interrupt()",
        "   IRQ:   3 affinity:3 vec:38 type=IO-APIC-edge    status=00000010 in-flight=0 "
        "domain-list=0:  3(-M-),",
        "   IRQ:   5 affinity:1 vec:40 type=IO-APIC-level   status=00000002 mapped, unbound",
        "   IRQ:  16 affinity:f vec:c0 type=IO-APIC-level   status=00000010 in-flight=1 "
        "domain-list=0: 16(PMM),32751:  7(---),",
        "   IRQ:  17 affinity:f vec:c8 type=IO-APIC-level   status=00000010 in-flight=0 "
        "domain-list=",
        "Direct vector information:",
    ]
    (seen,) = interrupts(lines)
    assert [(each.irq, each.domid, each.pirq) for each in seen.bound] == [
        (3, 0, 3),
        (16, 0, 16),
        (16, 32751, 7),
    ]
    assert seen.of(3) == BoundInterrupt(3, 0, 3, pending=False, masked=True, held=False)
    assert seen.unbound == {5}


@pytest.mark.parametrize(
    "broken",
    [
        "   IRQ:   1 vec:a8 IO-APIC-edge    status=030 aff:{1}/{0-1} d1v0 takes page fault",
        "   IRQ:   1 vec:a8 IO-APIC-edge    status=030 aff:{1}/{0-1} in-fli",
        "   IRQ:   1 vec:a8 IO-APd0:  1(---)",
        "Q:   1 vec:a8 IO-APIC-edge    status=030 aff:{1}/{0-1} in-flight=0 d0:  1(---)",
        "in-flight=0 d0:  1(---)",
    ],
)
def test_a_line_that_is_cut_or_mixed_is_an_error_and_no_missing_interrupt(broken: str) -> None:
    text = lines_of_i()
    text[2] = broken
    with pytest.raises(LabError, match="a line of debug key i is cut or mixed with another"):
        interrupts(text)


def test_what_xen_prints_between_the_lines_of_an_answer_is_left_out() -> None:
    text = lines_of_i()
    text.insert(5, "d1v0 Unhandled: vec 13, #GP[0000]")
    assert interrupts(text) == interrupts(lines_of_i())
