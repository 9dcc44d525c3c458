# SPDX-License-Identifier: GPL-2.0-or-later
"""Where --lines cannot be had, that is told before anything is built."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.host import EMULATION
from harness.config.options import RunOptions
from harness.run import machines
from harness.run.plan import make_plan, plan_of
from harness.verdict import ConfigError, LabError
from tests.config.test_physical import SERVER

LAB = {
    "a server": SERVER,
    "KVM": "hosts:\n  here: {kind: qemu, arch: x86_64, accel: kvm}\n",
}
ANY: Any = object()  # a hypervisor: nobody looks at it


@pytest.mark.parametrize("kind", list(LAB))
def test_a_host_without_tcg_is_refused(kind: str, tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text(LAB[kind])
    name = LAB[kind].splitlines()[1].partition(":")[0].strip()
    options = RunOptions(host=(name,), lab=lab, lines=True)
    with pytest.raises(ConfigError, match="only QEMU's TCG sees") as told:
        make_plan(options, ANY)
    assert told.value.where == "--lines" and name in told.value.what


def test_the_emulation_has_no_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no Xen") as told:
        plan_of(RunOptions(host=(EMULATION.name,), qemu_src=tmp_path, lines=True))
    assert told.value.where == "--lines"


def test_with_lines_the_machine_boots(tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text("hosts:\n  here: {kind: qemu, arch: arm64}\n")
    for lines in (True, False):
        plan = make_plan(RunOptions(host=("here",), lab=lab, lines=lines), ANY)
        assert (plan.lines, plan.keep) == (lines, not lines)


def test_a_full_disk_changes_no_verdict() -> None:
    class Full:
        def save(self, directory: object) -> None:
            raise LabError("no space left on device", where=str(directory))

    said: list[str] = []
    recorder: Any = SimpleNamespace(directory="here", progress=SimpleNamespace(note=said.append))
    full: Any = Full()
    machines._save(full, recorder)
    assert said == ["which lines ran is not known: here: no space left on device"]
