"""What a domU leaves in libvirt when it does not start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import libvirt
import pytest

from harness.arch import Arch
from harness.domains.toolstack import DomU, DomUBoot, Toolstack
from harness.verdict import LabError

BOOT = DomUBoot("/nowhere", "", "", type="pvh", memory_mib=64, vcpus=2, template="bare")


class Connection:
    """A libvirt whose domains can be defined, and never start."""

    def __init__(self) -> None:
        self.defined: list[str] = []

    def domainEventRegisterAny(self, *_: object) -> int:
        return 0

    def defineXML(self, xml: str) -> SimpleNamespace:
        self.defined.append(xml)
        return SimpleNamespace(
            createWithFlags=_refuse,
            connect=_refuse,
            destroy=_refuse,
            undefine=self.defined.clear,
        )


def _refuse(*_: object) -> None:
    raise libvirt.libvirtError("no such kernel")


def test_a_domu_that_does_not_start_is_not_left_defined() -> None:
    connection = Connection()
    toolstack = Toolstack(cast(Any, None), cast(Any, connection), cast(Any, None))
    with pytest.raises(LabError, match="the domU does not start"):
        toolstack.start("bare", Arch.X86_64, BOOT, cast(Any, None))
    assert connection.defined == []


class Running:
    """A domain that runs, and what is done to it."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def ID(self) -> int:
        return 3

    def connect(self) -> SimpleNamespace:
        return SimpleNamespace(getInfo=lambda: ["x86_64", 4096, 2, 2600, 1, 1, 2, 1])

    def maxVcpus(self) -> int:
        return 3

    def pinVcpu(self, vcpu: int, cpus: tuple[bool, ...]) -> None:
        self.done.append((vcpu, cpus))

    def destroy(self) -> None:
        self.done.append("destroyed")

    def undefine(self) -> None:
        self.done.append("undefined")


def test_the_vcpus_of_a_domu_stay_where_they_are_while_it_is_destroyed() -> None:
    domain = Running()
    console = SimpleNamespace(close=lambda: None)
    DomU("domu1", "pv", cast(Any, domain), cast(Any, console)).destroy()
    pins = [(0, (True, False)), (1, (False, True)), (2, (True, False))]
    assert domain.done == [*pins, "destroyed", "undefined"]
