# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's files that the emulation is compiled from: which are used, and which are missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.agent import emulated
from harness.agent.emulated import emulated_guest
from harness.hypervisor.qemu import EVENT_CHANNELS, QemuSource
from harness.verdict import BuildError

_HYPERCALLS = """
static int other(void)
{
    return 0;
}

void *kvm_xen_get_vcpu_info_hva(uint32_t vcpu_id)
{
    if (vcpu_id) {
        return 0;
    }
    return 1;
}

int after;
"""


@pytest.fixture
def source(tmp_path: Path) -> QemuSource:
    """A tree with the names of QEMU's files, and next to nothing in them."""
    files = {
        EVENT_CHANNELS: '#include "qemu/osdep.h"\n#include "hw/xen/interface/memory.h"\n',
        EVENT_CHANNELS.with_suffix(".h"): '#include "hw/sysbus.h"\n#include "../../escape.h"\n',
        EVENT_CHANNELS.with_name("xen_overlay.h"): "",
        EVENT_CHANNELS.with_name("xen_xenstore.h"): "",
        Path("target/i386/kvm/xen-emu.c"): _HYPERCALLS,
        Path("include/hw/xen/interface/memory.h"): "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return QemuSource(tmp_path, "0", "a test")


def test_every_header_that_is_not_xens_is_a_stub(
    source: QemuSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "_FUNCTIONS", ("kvm_xen_get_vcpu_info_hva",))
    headers = tmp_path / "headers"
    emulated._lay_out(source, headers)
    stubs = [path for path in headers.rglob("*.h") if path.read_text() == '#include "qemu.h"\n']
    assert {str(path.relative_to(headers)) for path in stubs} == {"qemu/osdep.h", "hw/sysbus.h"}
    assert not (tmp_path / "escape.h").exists()
    told = (headers / "hypercalls.h").read_text()
    assert told.startswith("void *kvm_xen") and told.endswith("return 1;\n}\n")


def test_a_function_that_is_not_there_is_named(source: QemuSource) -> None:
    with pytest.raises(BuildError, match="no function kvm_xen_set_vcpu_virq in QEMU's source"):
        emulated_guest(source)


def test_a_file_that_is_not_there_is_named(source: QemuSource) -> None:
    (source.tree / "target/i386/kvm/xen-emu.c").unlink()
    with pytest.raises(BuildError, match=r"xen-emu.c: not there"):
        emulated_guest(source)
