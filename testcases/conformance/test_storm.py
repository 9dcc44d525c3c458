# SPDX-License-Identifier: GPL-2.0-or-later
"""Many operations in a row; xenstore and the consoles must work after them."""

from __future__ import annotations

from harness.conformance.guest import Guest
from harness.run.session import Session

ROUNDS = 4


def test_close_and_rebind(guest: Guest) -> None:
    """Close each end in turn and bind it again: the peer keeps its port and bits."""
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    for _ in range(ROUNDS):
        guest.send(near)
        guest.close(near)
        assert guest.bind_interdomain(guest.domid, far) == near
        guest.close(far)
        assert guest.bind_interdomain(guest.domid, near) == far
    guest.domains.agree(guest)


def test_close_and_rebind_across_domains(dom0: Guest, domu: Guest) -> None:
    ours = dom0.alloc_unbound(domu.domid)
    for _ in range(ROUNDS):
        theirs = domu.bind_interdomain(0, ours)
        domu.send(theirs)
        dom0.send(ours)
        domu.close(theirs)
    dom0.domains.agree(dom0)
    domu.domains.agree(domu)


def test_xenstore_and_consoles_live(xen: Session, domu: Guest) -> None:
    """Both use event channels: ask xenstored, and libvirt for all domains."""
    path = f"/local/domain/{domu.domid}/data/evtchn-agent"
    written = xen.dom0.run(["xenstore-read", path])
    assert written.status == 0 and written.stdout.strip(), written.stderr
    shown = xen.dom0.run(["xenstore-ls", "/local/domain"])
    assert str(domu.domid) in shown.stdout
    started = (*xen.domus, *xen.guests)
    assert xen.toolstack.domains() == sorted(each.name for each in started)
