"""What a domU leaves in libvirt when it does not start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import libvirt
import pytest

from harness.arch import Arch
from harness.domains.toolstack import DomUBoot, Toolstack
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
            createWithFlags=_refuse, destroy=_refuse, undefine=self.defined.clear
        )


def _refuse(*_: object) -> None:
    raise libvirt.libvirtError("no such kernel")


def test_a_domu_that_does_not_start_is_not_left_defined() -> None:
    connection = Connection()
    toolstack = Toolstack(cast(Any, None), cast(Any, connection), cast(Any, None))
    with pytest.raises(LabError, match="the domU does not start"):
        toolstack.start("bare", Arch.X86_64, BOOT, cast(Any, None))
    assert connection.defined == []
