# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated x86-64 CPU, from recorded domain capabilities (AMD's models) of Debian 12 and 13."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.machine.cpu_model import tcg_cpu
from harness.verdict import LabError

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("recorded", ["libvirt-9.0-qemu-7.2", "libvirt-11.3-qemu-10.0"])
def test_the_same_cpu_on_both(recorded: str) -> None:
    capabilities = (DATA / f"domcaps-{recorded}.xml").read_text()
    assert tcg_cpu(capabilities) == "Opteron_G3,misalignsse=off,invtsc=on"


def test_what_a_later_qemu_cannot_give_is_switched_off() -> None:
    capabilities = (DATA / "domcaps-libvirt-11.3-qemu-10.0.xml").read_text()
    row = "<blockers model='Opteron_G3'>"
    assert row in capabilities
    lacking = capabilities.replace(row, f"{row}<feature name='sse4a'/>")
    assert tcg_cpu(lacking) == "Opteron_G3,misalignsse=off,sse4a=off,invtsc=on"


def test_the_next_model_where_the_best_is_gone() -> None:
    capabilities = (DATA / "domcaps-libvirt-11.3-qemu-10.0.xml").read_text()
    gone = capabilities.replace(">Opteron_G3<", ">Opteron_G9<")
    assert tcg_cpu(gone) == "Opteron_G2,misalignsse=off,invtsc=on"


@pytest.mark.parametrize(
    "capabilities",
    [
        "<domainCapabilities/>",
        "<domainCapabilities><cpu><mode name='custom' supported='no'/></cpu></domainCapabilities>",
    ],
)
def test_no_model_is_one_clear_error(capabilities: str) -> None:
    with pytest.raises(LabError, match="none of the CPU models Opteron_G3, Opteron_G2"):
        tcg_cpu(capabilities)
