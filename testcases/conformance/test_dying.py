# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain that dies: while dom0 still maps some of its pages, and what dom0 hears of it."""

from __future__ import annotations

import re
import time

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.conformance.host import HostDomains
from harness.machine.patience import Deadline
from harness.run.agents import PAYLOAD
from harness.run.session import Session

DEBUG = 1
_CLEANED_UP_SECONDS = 20.0


@pytest.mark.ends_bare
@pytest.mark.cells("alloc: EINVAL domain dying", "send: dropped: UNBOUND")
def test_a_dying_domain(bare: Bare, host_domains: HostDomains, dom0: Guest, domu: Guest) -> None:
    ours = dom0.alloc_unbound(bare.domid)
    bare.bind_interdomain(0, ours)
    dom0.send(ours)
    host_domains.destroy(bare)
    dom0.alloc_unbound(dom=bare.domid)
    domu.alloc_unbound(dom=bare.domid)  # Xen checks "dying" before permission
    dom0.status(ours)
    dom0.send(ours)
    dom0.close(ours)  # the end: xenstored and xenconsoled close ports in dom0 now, too


@pytest.mark.ends_bare
@pytest.mark.xen_only("QEMU has no xenstored that hears of an end")
@pytest.mark.cells("alloc: ENOSPC no port below the limits")
def test_a_refused_virq_hides_no_death(bare: Bare, host_domains: HostDomains, xen: Session) -> None:
    """Xen notes for xenstored which domains have changed.  Until XSA-496 (commit 40c59b6c29b1) it
    threw that away when any domain had no port left for a VIRQ."""
    bare.fill(2000)
    bare.bind_virq(DEBUG)
    assert _ports_towards(xen, bare.domid), "xenstored and xenconsoled have channels to each domain"
    host_domains.destroy(bare)
    host_domains.end_bare()
    deadline = Deadline(xen.machine.clock, _CLEANED_UP_SECONDS)
    while (left := _ports_towards(xen, bare.domid)) and not deadline.over:
        time.sleep(0.3)
    assert left == [], f"xenstored has not heard of the end of domain {bare.domid}"


def _ports_towards(xen: Session, domid: int) -> list[str]:
    """Return dom0's ports whose other end is, or may only come to be, in ``domid``."""
    said = xen.dom0.run(f"{PAYLOAD}/agent ports 0").stdout
    return re.findall(rf"^.*domain {domid}\b.*$", said, re.M)
