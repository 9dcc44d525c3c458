# SPDX-License-Identifier: GPL-2.0-or-later
"""What libvirt is told of a domU, and what is left of one that does not start."""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import libvirt
import pytest

from harness.arch import Arch
from harness.domains.toolstack import DomUBoot, Toolstack
from harness.machine.patience import WALL
from harness.verdict import HypervisorError, LabError

BOOT = DomUBoot("/nowhere", "", "", type="pvh", memory_mib=64, vcpus=2, template="bare")


class Connection:
    """A libvirt whose domains can be defined, and never start."""

    def __init__(self) -> None:
        self.defined: list[str] = []
        self.seen: list[str] = []  # ever defined

    def getInfo(self) -> list[Any]:
        return ["x86_64", 4096, 2, 2600, 1, 1, 2, 1]

    def domainEventRegisterAny(self, *_: object) -> int:
        return 0

    def defineXML(self, xml: str) -> SimpleNamespace:
        self.defined.append(xml)
        self.seen.append(xml)
        return SimpleNamespace(
            createWithFlags=_refuse,
            destroy=_refuse,
            undefine=self.defined.clear,
        )


DOM0 = SimpleNamespace(clock=WALL)


class Console:
    """A console on which Xen crashes when a domU begins to run."""

    def __init__(self) -> None:
        self.crashed = threading.Event()

    def check(self) -> None:
        if self.crashed.is_set():
            raise HypervisorError("an assertion of Xen failed")

    def follow(self, name: str, chunks: object) -> None:
        pass


def _refuse(*_: object) -> None:
    raise libvirt.libvirtError("no such kernel")


def test_a_domu_that_does_not_start_is_not_left_defined() -> None:
    connection = Connection()
    toolstack = Toolstack(cast(Any, DOM0), cast(Any, connection), cast(Any, None))
    with pytest.raises(LabError, match="the domU does not start"):
        toolstack.start("bare", Arch.X86_64, BOOT, cast(Any, Console()))
    assert connection.defined == []


def test_a_xen_that_dies_when_a_domu_begins_to_run_is_told_at_once() -> None:
    """libvirt's call to resume it came back after 130 s, and held up SIGTERM."""
    console, ended = Console(), threading.Event()

    def resume() -> None:
        console.crashed.set()
        ended.wait(60)  # no answer ever comes

    domain = SimpleNamespace(createWithFlags=lambda _: None, resume=resume, ID=lambda: 3)
    connection = Connection()
    connection.defineXML = lambda xml: domain  # type: ignore[method-assign]
    dom0 = SimpleNamespace(clock=WALL, start=lambda _: SimpleNamespace(chunks=lambda: ()))
    toolstack = Toolstack(cast(Any, dom0), cast(Any, connection), cast(Any, None))
    began = time.monotonic()
    with pytest.raises(HypervisorError, match="an assertion of Xen failed"):
        toolstack.start("bare", Arch.X86_64, BOOT, cast(Any, console))
    assert time.monotonic() - began < 10
    ended.set()


def test_xen_dies_before_libvirtd_answers_and_no_tunnel_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, ended = Console(), threading.Event()

    def connect(address: str) -> None:
        console.crashed.set()
        ended.wait(60)  # no answer ever comes

    monkeypatch.setattr(libvirt, "open", connect)
    dom0 = cast(Any, SimpleNamespace(clock=WALL))
    with pytest.raises(HypervisorError, match="an assertion of Xen failed"):
        Toolstack.connect(dom0, tmp_path, timeout=60, check=console.check)
    ended.set()
    assert list(tmp_path.iterdir()) == []


def test_events_are_asked_for_in_a_thread_that_holds_up_no_ctrl_c() -> None:
    threads = []
    connection = Connection()
    connection.domainEventRegisterAny = (  # type: ignore[method-assign]
        lambda *_: threads.append(threading.current_thread()) or 0  # type: ignore[func-returns-value]
    )
    Toolstack(cast(Any, DOM0), cast(Any, connection), cast(Any, None))
    assert threads and threads[0] is not threading.main_thread()


@pytest.mark.parametrize("template", ["domu", "bare"])
@pytest.mark.parametrize("arch", list(Arch))
@pytest.mark.parametrize(("first", "pins"), [(0, ["0", "1", "0"]), (1, ["1", "0", "1"])])
def test_every_vcpu_of_a_domu_keeps_to_one_cpu(
    arch: Arch, template: str, first: int, pins: list[str]
) -> None:
    """A vCPU that credit2 moves while its domain is destroyed kills a debug build of Xen."""
    connection = Connection()
    toolstack = Toolstack(cast(Any, DOM0), cast(Any, connection), cast(Any, None))
    boot = replace(BOOT, vcpus=3, template=template)
    with pytest.raises(LabError):
        toolstack.start("domu1", arch, boot, cast(Any, Console()), first)
    (xml,) = connection.seen
    found = ElementTree.fromstring(xml).findall("./cputune/vcpupin")
    assert [pin.get("vcpu") for pin in found] == ["0", "1", "2"]
    assert [pin.get("cpuset") for pin in found] == pins
