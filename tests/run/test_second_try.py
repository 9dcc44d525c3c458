# SPDX-License-Identifier: GPL-2.0-or-later
"""A dom0 that does not come up: whose fault it is, and what is remembered to tell that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import cache
from harness.arch import Arch
from harness.config.host import QemuHost
from harness.evidence import BringUp, Crash
from harness.run.came_up import CameUp
from harness.run.second_try import twice
from harness.toolstack.choice import Choice
from harness.verdict import HypervisorError, LabError, Verdict

NOT_UP = BringUp(stage="boot", domain="dom0", step="xenstore", reason="FATAL: no")
NO_DOMU = BringUp(stage="domains", domain="domu1", reason="the domU does not start: no memory")
PANIC = Crash(what="kernel panic", stream="dom0", text="Kernel panic - not syncing")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


class Boots:
    """Boots that end with these errors, one after the other, and then with a host that is up."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.count = 0
        self.notes: list[str] = []

    @contextmanager
    def boot(self) -> Iterator[str]:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)
        yield "up"

    def run(self, known: CameUp) -> str:
        with twice(self.boot, known, self.notes.append) as live:
            return live


def known(tmp_path: Path, xen: str = "this", host: QemuHost | None = None) -> CameUp:
    agent = tmp_path / "agent"
    agent.write_bytes(b"agent")
    built: Any = SimpleNamespace(digest=xen)
    image: Any = SimpleNamespace(digest="image")
    fit = Choice("bookworm", "package", "Debian's own")
    return CameUp.of(host or QemuHost(name="h", arch=Arch.ARM64), built, image, agent, fit)


def test_with_nothing_to_compare_with_it_is_a_miss_at_once(tmp_path: Path) -> None:
    boots = Boots(LabError(NOT_UP))
    known(tmp_path).note(
        "4.17", domus=False
    )  # this very Xen came up: that says nothing about another
    with pytest.raises(LabError) as caught:
        boots.run(known(tmp_path))
    assert caught.value.verdict is Verdict.MISS and boots.count == 1


def test_with_images_that_came_up_elsewhere_it_is_a_fail_after_a_second_try(
    tmp_path: Path,
) -> None:
    known(tmp_path, "another").note("4.16.1", domus=False)
    boots = Boots(LabError(NOT_UP), LabError(NOT_UP, story="libvirtd runs"))
    with pytest.raises(HypervisorError) as caught:
        boots.run(known(tmp_path))
    seen = caught.value.evidence
    assert isinstance(seen, BringUp)
    assert replace(seen, elsewhere="") == replace(NOT_UP, tries=2)
    assert seen.elsewhere.startswith("4.16.1 on 20")
    assert caught.value.story == "libvirtd runs"
    assert boots.count == 2 and "4.16.1" in boots.notes[0]
    assert "dom0 does not come up, in 2 boots: xenstore failed: FATAL: no" in str(caught.value)


def test_a_second_try_that_succeeds_goes_on(tmp_path: Path) -> None:
    known(tmp_path, "another").note("4.16.1", domus=False)
    assert Boots(LabError(NOT_UP)).run(known(tmp_path)) == "up"


def test_a_panic_of_dom0s_kernel_counts(tmp_path: Path) -> None:
    known(tmp_path, "another").note("4.16.1", domus=False)
    with pytest.raises(HypervisorError, match="kernel failed: kernel panic: Kernel panic"):
        Boots(LabError(PANIC), LabError(PANIC)).run(known(tmp_path))


@pytest.mark.parametrize("at", [0, 1])
def test_a_fault_of_the_machine_is_never_a_fail(tmp_path: Path, at: int) -> None:
    known(tmp_path, "another").note("4.16.1", domus=False)
    errors = [LabError(NOT_UP), LabError(NOT_UP)]
    errors[at] = LabError("QEMU is gone")
    with pytest.raises(LabError, match="QEMU is gone"):
        Boots(*errors).run(known(tmp_path))


def test_an_error_of_the_block_is_not_one_of_the_boot(tmp_path: Path) -> None:
    known(tmp_path, "another").note("4.16.1", domus=False)
    boots = Boots()
    again = twice(boots.boot, known(tmp_path), boots.notes.append)
    with pytest.raises(LabError, match="libvirt is gone"), again:
        raise LabError("libvirt is gone")
    assert boots.count == 1


def test_a_domu_that_does_not_start_counts_where_domus_came_up(tmp_path: Path) -> None:
    known(tmp_path, "another").note("4.16.1", domus=False)
    with pytest.raises(LabError) as miss:
        Boots(LabError(NO_DOMU), LabError(NO_DOMU)).run(known(tmp_path))
    assert miss.value.verdict is Verdict.MISS
    known(tmp_path, "another").note("4.16.1", domus=True)
    told = "domu1 does not come up, in 2 boots: the domU does not start: no memory"
    with pytest.raises(HypervisorError, match=told):
        Boots(LabError(NO_DOMU), LabError(NO_DOMU)).run(known(tmp_path))


def test_only_the_same_host_and_images_count(tmp_path: Path) -> None:
    larger = QemuHost(name="h", arch=Arch.ARM64, memory_mib=8192)
    known(tmp_path, "another", larger).note("4.16.1", domus=False)
    assert known(tmp_path).elsewhere(domus=False) == ""
    known(tmp_path, "another").note("4.16.1", domus=False)
    assert known(tmp_path).elsewhere(domus=False) != ""
    (shelf,) = (cache.root() / "came-up").glob(known(tmp_path).key)
    (shelf / "dom0" / "another").write_text("cut o")  # by a full disk
    assert known(tmp_path).elsewhere(domus=False) == ""
