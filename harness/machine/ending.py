# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine under QEMU ended: did what runs in it reset it, or did somebody end QEMU?"""

from __future__ import annotations

import contextlib
import threading

import libvirt

_TOLD_SECONDS = 2.0  # until libvirt has said how a domain ended that it does not find any more


class Ending:
    """Hears from libvirt how ``domain`` ends.  libvirt's event loop must run."""

    def __init__(self, connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
        """Listen from now on; where libvirt refuses, nothing will be known."""
        self._connection = connection
        self._from_inside = False
        self._over = threading.Event()
        self._callback: int | None = None
        with contextlib.suppress(libvirt.libvirtError):
            self._callback = connection.domainEventRegisterAny(
                domain, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened, None
            )

    def from_inside(self) -> bool:
        """Return whether the machine reset itself or switched itself off; ask once it is gone.

        QEMU's event SHUTDOWN tells the guest's doing (also a triple fault, PSCI's SYSTEM_RESET, a
        watchdog's bite) from a signal or an order to QEMU.
        """
        if self._callback is not None:
            self._over.wait(_TOLD_SECONDS)
        return self._from_inside

    def close(self) -> None:
        """Listen no more."""
        if self._callback is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(self._callback)
        self._callback = None

    def _happened(
        self,
        _connection: libvirt.virConnect,
        _domain: libvirt.virDomain,
        event: int,
        detail: int,
        _opaque: object,
    ) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN:
            self._from_inside |= detail == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._over.set()
