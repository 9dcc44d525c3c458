# SPDX-License-Identifier: GPL-2.0-or-later
"""The fields of a host, as lab.yaml or a built-in host sets them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.arch import Arch

Accel = Literal["auto", "kvm", "tcg"]

# For Xen itself: its code, its frame table, and dom0's kernel and ramdisk until dom0 is built.
XEN_RESERVE_MIB = 128


# A host's name becomes a directory, a libvirt domain and a word on the command line.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def is_host_name(name: str) -> bool:
    """Return whether a host can have that name."""
    return _NAME.fullmatch(name) is not None


class Section(BaseModel):
    """A mapping in lab.yaml: an unknown field is a mistake; a value cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Domains(Section):
    """The fields that every kind of host has: architecture, dom0 and domUs."""

    name: str = ""  # the key in lab.yaml
    arch: Annotated[Arch, Field(examples=["x86_64"])]
    dom0_memory_mib: Annotated[int, Field(ge=512)] = 1024
    domus: Annotated[int, Field(ge=0, le=8)] = 2
    domu_memory_mib: Annotated[int, Field(ge=96)] = 192
    domu_vcpus: Annotated[int, Field(ge=1, le=4)] = 2
    # The event-channel ABI of Linux: both is FIFO in dom0 and in domu1, 3..., 2L in domu2, 4...
    abi: Literal["both", "fifo", "2l"] = "both"


class QemuHost(Domains):
    """A machine under QEMU, started through libvirt."""

    kind: Literal["qemu"] = "qemu"
    accel: Accel = "auto"
    cpus: Annotated[int, Field(ge=2, le=64)] = 2  # physical CPUs as Xen sees them
    memory_mib: Annotated[int, Field(ge=1024, le=1 << 20)] = 2560
    ssh_port: Annotated[int, Field(ge=1, le=65535)] | None = None  # None: any free one
    libvirt_uri: str | None = None  # None: qemu:///system for root, else qemu:///session

    @model_validator(mode="after")
    def _domains_fit(self) -> Self:
        domains = self.dom0_memory_mib + self.domus * self.domu_memory_mib
        if domains + XEN_RESERVE_MIB > self.memory_mib:
            raise ValueError(
                f"dom0 and {self.domus} domUs take {domains} MiB of memory_mib {self.memory_mib} "
                f"and leave less than {XEN_RESERVE_MIB} for Xen; "
                f"set memory_mib to {domains + XEN_RESERVE_MIB} or more"
            )
        return self


BUILT_IN: dict[str, QemuHost] = {
    "qemu-x86_64": QemuHost(name="qemu-x86_64", arch=Arch.X86_64),
    "qemu-arm64": QemuHost(name="qemu-arm64", arch=Arch.ARM64),
}


class EmulationHost(Domains):
    """QEMU's emulation of Xen's event channels, in a process of this computer: no machine, no dom0.

    Only ``run`` has such a host, and no lab file: there is nothing to say about it.
    """

    kind: Literal["qemu-xen-emulation"] = "qemu-xen-emulation"
    arch: Arch = Arch.X86_64
    domus: int = 0


EMULATION = EmulationHost(name="qemu-xen-emulation")
