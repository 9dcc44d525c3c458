# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that begins anew: asked for, a consequence, or a reset that nobody asked for."""

from __future__ import annotations

import pytest

from harness.hypervisor.console import Blame, scan, symptom
from harness.hypervisor.resets import Resets

XEN = ("xen", "Xen version 4.18.2 (builder@host) (gcc 12) debug=y")
BIOS = ("dom0", "\x1b[2J\x1b[01;01HSeaBIOS (version 1.16.2)")
GRUB = ("dom0", "                        GNU GRUB  version 2.06")
LINUX = ("dom0", "[    1.0] eth0: link up")
REBOOT = ("xen", "Hardware Dom0 shutdown: rebooting machine")
PANIC = ("xen", "Panic on CPU 1:")
GAP = ("dom0", "harness: the console was lost for 3.0 s (the line ended)")

Said = tuple[str, str]


def follow(resets: Resets, *said: Said, at: float = 0.0) -> list[str]:
    """Return the lines that show a reset, one line a second from ``at`` on."""
    found = []
    for second, (stream, text) in enumerate(said):
        died = scan(stream, text)
        if died:
            resets.died(died)
        elif event := resets.see(stream, text, symptom(stream, text), at + second):
            assert (event.kind, event.blame) == ("reset", Blame.HYPERVISOR)
            found.append(text)
    return found


@pytest.mark.parametrize(
    ("said", "reset"),
    [
        ([BIOS, GRUB, XEN, LINUX], []),
        ([XEN, LINUX, XEN, LINUX], [XEN]),
        ([XEN, LINUX, BIOS, GRUB, XEN, LINUX], [BIOS]),  # once
        ([XEN, LINUX, GRUB, LINUX], [GRUB]),  # and home to a default system without Xen
        ([XEN, LINUX, REBOOT, BIOS, XEN, LINUX], []),
        ([XEN, LINUX, PANIC, BIOS, XEN, LINUX], []),
        ([XEN, LINUX, PANIC, BIOS, XEN, LINUX, XEN], [XEN]),
        ([XEN, LINUX, ("xen", "Hardware Dom0 halted: halting machine"), BIOS], []),
        ([XEN, LINUX, ("xen", "'R' pressed -> rebooting machine"), XEN], []),
        ([XEN, ("xen", "Domain 3 (vcpu#0) crashed on cpu#1:"), XEN], [XEN]),
        ([XEN, ("xen", "(d1) SeaBIOS (version 1.16)"), ("domu1", "SeaBIOS (version 1.16)")], []),
        ([XEN, ("dom0", "[    0.0] AMIBIOS detected"), LINUX], []),  # dom0's kernel says so
        ([XEN, LINUX, GAP, XEN, LINUX], []),  # a BMC that repeats what it has
    ],
)
def test_what_is_a_reset(said: list[Said], reset: list[Said]) -> None:
    assert follow(Resets(), *said) == [text for _, text in reset]


def test_what_was_asked_for_is_no_reset() -> None:
    resets = Resets()
    assert follow(resets, XEN, LINUX) == []
    resets.asked()
    assert follow(resets, BIOS, GRUB, XEN) == []
    assert follow(resets, XEN) == [XEN[1]]


def test_a_repetition_ends() -> None:
    resets = Resets()
    assert follow(resets, XEN, GAP) == []
    assert follow(resets, XEN, at=60.0) == [XEN[1]]


def test_a_restored_machine_is_up_again() -> None:
    resets = Resets()
    assert follow(resets, XEN, PANIC) == []
    resets.restored()
    assert follow(resets, LINUX, BIOS) == [BIOS[1]]


@pytest.mark.parametrize(
    ("said", "is_reset", "why"),
    [
        ([XEN, LINUX], True, "by itself, and nobody asked for it"),
        ([XEN, LINUX, REBOOT], False, "Hardware Dom0 shutdown: rebooting machine"),
        ([XEN, LINUX, ("xen", "'R' pressed -> rebooting machine")], False, "'R' pressed"),
        ([XEN, LINUX, ("xen", "Entering ACPI S5 state.")], False, "ACPI S5"),  # `poweroff`, on x86
        ([XEN, LINUX, ("xen", "Entering ACPI S3 state.")], True, "nobody asked for it"),
        ([XEN, LINUX, PANIC], False, "Panic on CPU 1:"),
        ([], False, "before Xen said anything"),
    ],
)
def test_a_machine_that_is_gone_needs_no_banner(said: list[Said], is_reset: bool, why: str) -> None:
    resets = Resets()
    assert follow(resets, *said) == []
    event, told = resets.gone()
    assert (event is not None, why in told) == (is_reset, True), told
    assert resets.gone() == (None, told)  # told once
