"""Which release of the distribution has a toolstack that fits a hypervisor.

domctl and sysctl are Xen's interfaces to its own toolstack only: both sides must have been built
from headers of the same version, and Xen refuses (EACCES) whoever was not.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness import apt


@dataclass(frozen=True)
class Interfaces:
    """XEN_DOMCTL_INTERFACE_VERSION and XEN_SYSCTL_INTERFACE_VERSION."""

    domctl: int
    sysctl: int

    def __str__(self) -> str:
        return f"domctl {self.domctl:#x}, sysctl {self.sysctl:#x}"


# Debian's releases and the interfaces of their Xen: 4.14, 4.17, 4.20.
TOOLSTACKS = {
    "bullseye": Interfaces(0x12, 0x13),
    "bookworm": Interfaces(0x15, 0x15),
    "trixie": Interfaces(0x17, 0x15),
}


@dataclass(frozen=True)
class Choice:
    """The release to make dom0 of ("" is the machine's), and why its toolstack is of no use."""

    codename: str
    why_not: str = ""


def choose(wanted: Interfaces | None, distribution: str | None = None) -> Choice:
    """Return which dom0 fits a hypervisor with those interfaces; None: they are not known.

    Without a fit it is the machine's own release, and what needs no toolstack can be tested.
    """
    if (distribution or apt.machine_release().distribution) != "debian":
        return Choice("")  # there is only the machine's own release, for better or worse
    if wanted is None:
        return Choice("", "the source does not tell its domctl and sysctl versions")
    for codename, has in TOOLSTACKS.items():
        if has == wanted:
            return Choice(codename)
    known = "; ".join(f"{codename}: {has}" for codename, has in TOOLSTACKS.items())
    return Choice("", f"no dom0 has a toolstack for {wanted} ({known})")
