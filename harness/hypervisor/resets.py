# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that begins anew although nobody asked for it: Xen, or the machine under it, was reset.

A triple fault, a hardware watchdog or a lost supply say nothing on the console; all that is seen
of them is the banner of firmware or of Xen, after Xen has been up.  Of a machine under QEMU it is
known without a banner.
"""

from __future__ import annotations

import re

from harness.hypervisor.console import Blame, Event
from harness.hypervisor.console_bodies import linux_bodies, xen_bodies

_XEN = re.compile(r"Xen version \d+\.\d+")  # xen/drivers/char/console.c, first of all lines
_FIRMWARE = re.compile(
    r"SeaBIOS \(version |UEFI firmware \(version |BdsDxe: (loading|starting) Boot"
    r"|(Welcome to )?GRUB(!| loading)|\s*GNU GRUB +version "
    r"|AMIBIOS\b|PhoenixBIOS |Phoenix (ROM BIOS|SecureCore)|iPXE initialising devices"
    r"|(Version .*|Copyright .*)?American Megatrends|PXELINUX \d|ISOLINUX \d|SYSLINUX \d"
    r"|U-Boot (SPL |TPL )?\d{4}\.\d\d|NOTICE:  +(BL1|BL2|BL31|Booting Trusted Firmware)"
    r"|coreboot-\S+ .*(bootblock|romstage|starting)|Tianocore/EDK2 firmware "
    r"|HPE? ProLiant System BIOS|UEFI Interactive Shell v"
)
# Xen says so whoever asked for it: common/shutdown.c, its debug key R, and arch/x86/acpi/power.c,
# by which Linux in dom0 switches a PC off.
_GOES_DOWN = re.compile(
    r"(Hardware Dom\d+|Domain 0) (halted|shutdown)|'R' pressed -> rebooting"
    r"|(Preparing system for|Entering) ACPI S5 state"
)
# The line was lost and is there again: some BMCs and console servers repeat their last lines then.
_GAP = re.compile(r"harness: the console was lost for ")
_REPEAT_SECONDS = 5.0


class Resets:
    """Follows one machine's console; not thread-safe."""

    def __init__(self) -> None:
        self._up = False  # Xen has spoken since a boot was asked for
        self._ended = ""  # the line that told why Xen does not go on
        self._gone = ""  # why the machine is gone, if it is
        self._repeats_until = 0.0

    def asked(self) -> None:
        """Note that the machine was told to boot: whatever begins until Xen is up is no reset."""
        self._up, self._gone = False, ""

    def restored(self) -> None:
        """Note that the machine was put back to a state in which Xen was up."""
        self._up, self._ended, self._gone = True, "", ""

    def died(self, event: Event) -> None:
        """Note a crash: what begins after it is its consequence."""
        if event.blame is not Blame.DOMU:
            self._ended = event.text

    def see(self, stream: str, text: str, symptom: Event | None, seconds: float) -> Event | None:
        """Return the reset that a line which reports no crash shows, or None.

        ``symptom`` is what it reports besides; ``seconds`` is when it came, on any clock.
        """
        if stream not in ("xen", "dom0"):
            return None
        if _GAP.match(text):
            self._repeats_until = seconds + _REPEAT_SECONDS
        if symptom is not None and symptom.kind == "dom0 reboot":
            self._ended = symptom.text
        for body in xen_bodies(text) if stream == "xen" else linux_bodies(text):
            if stream == "xen" and _GOES_DOWN.match(body.text):
                self._ended = body.text.strip()
            is_xen = stream == "xen" and _XEN.match(body.text) is not None
            if is_xen or (_FIRMWARE.match(body.text) and not body.is_kernels):
                return self._begins(body.text, is_xen=is_xen, seconds=seconds)
        return None

    def gone(self) -> tuple[Event | None, str]:
        """Note that the machine was reset, or is off, by what runs in it; no banner is needed.

        Return (the reset if nobody asked for it, else None; in words why it is gone).
        """
        if self._gone:
            return None, self._gone
        if not self._up:
            self._gone = "the machine was reset or switched off before Xen said anything"
        elif self._ended:
            self._gone = f"the machine was reset or switched off: {self._ended}"
        else:
            self._gone = "the machine was reset or switched off by itself, and nobody asked for it"
            return Event("reset", Blame.HYPERVISOR, self._gone), self._gone
        return None, self._gone

    def _begins(self, text: str, *, is_xen: bool, seconds: float) -> Event | None:
        if seconds < self._repeats_until:
            return None
        nobody_asked = self._up and not self._ended
        self._up = is_xen
        self._ended = ""
        said = f"the machine begins anew, and nobody asked for it: {text.strip()}"
        return Event("reset", Blame.HYPERVISOR, said) if nobody_asked else None
