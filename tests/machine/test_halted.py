# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing into a machine that stands still, against a real QEMU without a guest."""

from __future__ import annotations

import pytest

from harness.machine.halted import Halted, cpu_in_xen
from harness.machine.rsp import Stub
from harness.verdict import LabError
from tests.machine.test_rsp import stub  # noqa: F401

MEMORY, NO_MEMORY = 0x1000, 0x4000_0000


@pytest.fixture
def machine(stub: Stub) -> Stub:  # noqa: F811
    stub.write(0, MEMORY, b"sign")
    return stub


def test_what_is_written_is_there_and_the_machine_goes_on(machine: Stub) -> None:
    seen = Halted(machine, cpu_in_xen(machine, 2, (MEMORY, b"sign")))
    seen.write(MEMORY + 8, b"\x11\0\0\0")
    assert seen.read(MEMORY, 12) == b"sign\0\0\0\0\x11\0\0\0"
    machine.go()
    assert machine.wait(0.05) is None
    machine.halt()
    assert seen.read(MEMORY + 8, 1) == b"\x11"


def test_where_no_memory_is_nothing_is_read(machine: Stub) -> None:
    with pytest.raises(LabError, match="answers 'E14'"):
        Halted(machine, 0).read(NO_MEMORY, 1)


def test_no_cpu_sees_it(machine: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.machine.halted._IN_XEN_SECONDS", 0.1)
    with pytest.raises(LabError, match="no CPU is in the Xen"):
        cpu_in_xen(machine, 2, (MEMORY, b"SIGN"))
