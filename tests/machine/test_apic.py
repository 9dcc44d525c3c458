# SPDX-License-Identifier: GPL-2.0-or-later
"""An interrupt that QEMU has lost, by what its monitor prints of a CPU."""

from __future__ import annotations

import pytest

from harness.machine import apic
from harness.machine.apic import Lost, deliverable, lost

ASLEEP = "RIP=ffff82d080272897 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\n"
AWAKE = "RIP=ffff82d08023efde RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
OFF = "RIP=ffff82d080272897 RFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\n"


def local_apic(requested: str, priority: str = "10") -> str:
    return (
        "dumping local APIC state for CPU 0 \n\n"
        "LVTT\t 0x000000fa active-hi edge                 one-shot     Fixed  (vec 250)\n"
        "Timer\t DCR=0xb (divide by 1) initial_count = 3075577 current_count = 0\n"
        f"ISR\t (none)\nIRR\t {requested}\n"
        f"\nAPR 0x00 TPR 0x10 DFR 0x0f LDR 0x01 PPR 0x{priority}\n"
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apic, "_PAUSE", 0.0)


@pytest.mark.parametrize(
    ("registers", "text", "vector"),
    [
        (ASLEEP, local_apic("250 253 "), 0xFD),
        (ASLEEP, local_apic("49(level) "), 49),
        (ASLEEP, local_apic("(none)"), None),
        (AWAKE, local_apic("253 "), None),
        (OFF, local_apic("253 "), None),
        (ASLEEP, local_apic("241 ", priority="f0"), None),  # it waits for the end of another one
        (ASLEEP, "local apic state not available\n", None),
        ("", "", None),
    ],
)
def test_which_vector_should_wake_it(registers: str, text: str, vector: int | None) -> None:
    assert deliverable(registers, text) == vector


class Monitor:
    """Two CPUs: what is requested of each, at each look."""

    def __init__(self, *looks: tuple[str, str]) -> None:
        self._looks, self._asked = looks, [0, 0]

    def __call__(self, line: str, cpu: int) -> str:
        look = self._looks[min(self._asked[cpu], len(self._looks) - 1)]
        if line == "info registers":
            return ASLEEP
        self._asked[cpu] += 1
        return local_apic(look[cpu])


def test_one_that_is_never_taken_is_lost() -> None:
    found = lost(2, Monitor(("(none)", "250 ")), lambda _: True)
    assert found == Lost(1, 0xFA)
    assert str(found).startswith("QEMU has lost an interrupt: CPU1 sleeps")


def test_one_that_is_taken_in_the_end_is_not() -> None:
    looks = [("253 ", "250 ")] * 4 + [("(none)", "(none)")]
    assert lost(2, Monitor(*looks), lambda _: True) is None


def test_a_cpu_whose_thread_waits_for_a_busy_host_has_lost_nothing() -> None:
    assert lost(2, Monitor(("253 ", "250 ")), lambda _: False) is None
    assert lost(2, Monitor(("253 ", "250 ")), lambda cpu: cpu == 1) == Lost(1, 0xFA)
