# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest: as what it can boot, and the line to its relay."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.arch import Arch
from harness.hypervisor.build import SHIM_CONFIG
from harness.machine.accel import Choice
from harness.machine.line import Line
from harness.machine.qemu import QemuMachine
from harness.run.bare import obstacles, process_of
from harness.verdict import LabError


def test_the_relay_says_its_process_and_nothing_more_is_read() -> None:
    here, there = socket.socketpair()
    there.sendall(b"1234\nhello")
    line = Line(here, "bare")
    assert process_of(line) == 1234
    assert line.read(16, 1.0) == b"hello"


def test_a_relay_that_ends_at_once_is_told_and_not_waited_for() -> None:
    here, there = socket.socketpair()
    there.sendall(b"12")
    there.close()
    with pytest.raises(LabError, match="ended before it printed its pid"):
        process_of(Line(here, "bare"))


_SHADOW = Path("xen/arch/x86/mm/shadow/types.h")


def _live(
    folder: Path,
    caps: str,
    *,
    text: str = "",
    machine: object = None,
    release: tuple[int, int] = (4, 14),
) -> Any:
    """Return a session whose Xen's ``xl info`` has ``caps``, and ``text`` in its shadow code; its
    tree has xen-shim."""
    (folder / SHIM_CONFIG).parent.mkdir(parents=True, exist_ok=True)
    (folder / SHIM_CONFIG).write_text("CONFIG_PV_SHIM=y\n")
    if text:
        (folder / _SHADOW).parent.mkdir(parents=True)
        (folder / _SHADOW).write_text(text)
    said = SimpleNamespace(stdout=f"host : h\nvirt_caps              : {caps}\nfree_memory : 1\n")
    return SimpleNamespace(
        host=SimpleNamespace(arch=Arch.X86_64),
        dom0=SimpleNamespace(run=lambda _: said),
        build=SimpleNamespace(source=SimpleNamespace(tree=folder, release=release)),
        machine=machine,
    )


def _emulated() -> QemuMachine:
    machine = QemuMachine.__new__(QemuMachine)
    machine.accel = Choice("tcg", "")
    return machine


def test_hvm_and_pvh_want_hap_or_shadow_paging(tmp_path: Path) -> None:
    assert obstacles(_live(tmp_path, "pv hvm hap shadow")) == {}
    assert obstacles(_live(tmp_path, "pv hvm shadow")) == {}
    assert list(obstacles(_live(tmp_path, "pv hvm", release=(4, 12)))) == ["shim"]  # no such words
    why = obstacles(_live(tmp_path, "pv hvm"))
    assert list(why) == ["pvh", "hvm", "shim"] and "has neither" in why["hvm"]


def test_the_shim_wants_a_source_and_a_release_that_is_described(tmp_path: Path) -> None:
    live = _live(tmp_path, "pv hvm hap", release=(4, 13))
    assert list(obstacles(live)) == ["shim"] and "before 4.14" in obstacles(live)["shim"]
    live = _live(tmp_path, "pv hvm hap")
    (tmp_path / SHIM_CONFIG).unlink()  # as in the distribution's packages
    assert "has no xen/arch/x86/configs/pvshim_defconfig" in obstacles(live)["shim"]
    live.host.arch = Arch.ARM64
    assert obstacles(live) == {}


def test_shadow_paging_that_relies_on_reserved_bits_is_not_used_under_tcg(tmp_path: Path) -> None:
    """4.14.0 died there: Assertion 'regs->error_code & PFEC_page_present' failed."""
    old = _live(tmp_path, "pv hvm shadow", text="sh_l1e_is_magic(", machine=_emulated())
    assert list(obstacles(old)) == ["hvm"]
    assert "60c0444fae21" in obstacles(old)["hvm"]
    old.machine = None  # a server
    assert obstacles(old) == {}


def test_shadow_paging_that_looks_for_a_hypervisor_first_is_used(tmp_path: Path) -> None:
    text = "static inline bool sh_have_pte_rsvd_bits(void)"
    assert obstacles(_live(tmp_path, "pv shadow", text=text, machine=_emulated())) == {}
