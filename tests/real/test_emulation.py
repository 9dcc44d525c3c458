# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own source in the conformance suite: as recorded, with a divergence mended, with a bug."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.hypervisor import qemu
from harness.hypervisor.qemu import EVENT_CHANNELS, QemuSource
from harness.model.evtchn.qemu import TABLE
from harness.verdict import LabError
from tests.real.conftest import Ran, harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
_HOST = "qemu-xen-emulation"
_PARTS = ("hw/i386/kvm", "target/i386/kvm", "include/hw/xen/interface")


@pytest.fixture(scope="module")
def source() -> QemuSource:
    """The distribution's QEMU."""
    try:
        return qemu.from_apt()
    except LabError as error:  # this archive has none that is new enough
        pytest.skip(str(error))


@pytest.fixture
def tree(source: QemuSource, tmp_path: Path) -> Path:
    """A copy of what is compiled, to change."""
    for part in _PARTS:
        shutil.copytree(source.tree / part, tmp_path / "qemu" / part)
    file = tmp_path / "qemu" / EVENT_CHANNELS
    file.chmod(0o644)
    return tmp_path / "qemu"


def run(out: Path, *words: str) -> Ran:
    options = ["--host", _HOST, "--seed", "11", "--keep-going", "--json", "--out", str(out)]
    return harness("run", *options, *words)


def change(tree: Path, old: str, new: str) -> None:
    """Change the first ``old`` of QEMU's file."""
    file = tree / EVENT_CHANNELS
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_it_does_what_is_recorded_and_each_divergence_is_told(
    source: QemuSource, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = run(out, "--duration", "20")
    assert ran.code == 0, ran.stderr
    (host,) = ran.document["hosts"]
    assert host["verdict"] == "PASS" and source.version in host["source"]
    assert not any(test["verdict"] == "SKIP" for test in host["tests"])
    told = json.loads((out / "divergences.json").read_text())
    assert [each["name"] for each in told] == [each.name for each in TABLE]
    assert all(f"{each.name}: {each.says}" in ran.stderr for each in TABLE)
    random = json.loads((out / f"random-{_HOST}-hvm.json").read_text())
    assert random["disagreements"] == [] and random["undecided"] == 0
    assert random["operations"] > 10_000


def test_a_divergence_that_qemu_has_mended(tree: Path, tmp_path: Path) -> None:
    change(
        tree,
        "    case EVTCHNSTAT_closed:\n        return -ENOENT;",
        "    case EVTCHNSTAT_closed:\n        return -EINVAL;",
    )
    ran = run(tmp_path / "out", "--qemu-src", str(tree))
    assert ran.code == 1
    (host,) = ran.document["hosts"]
    stories = [test["story"] for test in host["tests"] if test["verdict"] == "FAIL"]
    assert any("Xen answers the same: close-of-a-closed-port" in story for story in stories)


def test_a_port_that_is_bound_to_itself(tree: Path, tmp_path: Path) -> None:
    """QEMU 8.0 did so (75a87af9b228): only random sequences guess the next port."""
    change(tree, "interdomain->local_port != interdomain->remote_port &&", "")
    ran = run(tmp_path / "out", "--qemu-src", str(tree), "--duration", "10")
    assert ran.code == 1
    (host,) = ran.document["hosts"]
    (failed,) = [test for test in host["tests"] if test["verdict"] == "FAIL"]
    assert failed["name"] == "random-sequences"
    assert failed["evidence"]["operation"]["verb"] == "BindInterdomain"


def test_a_lock_that_is_not_released(tree: Path, tmp_path: Path) -> None:
    text = (tree / EVENT_CHANNELS).read_text()
    before, function, after = text.partition("int xen_evtchn_unmask_op(")
    assert function
    (tree / EVENT_CHANNELS).write_text(
        before + function + after.replace("qemu_mutex_unlock(&s->port_lock);", ";", 1)
    )
    ran = run(tmp_path / "out", "--qemu-src", str(tree), "--duration", "1")
    assert ran.code == 1
    (host,) = ran.document["hosts"]
    assert "SIGABRT" in host["message"] and "!m->held" in host["message"]
