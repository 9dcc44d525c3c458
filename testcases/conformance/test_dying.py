# SPDX-License-Identifier: GPL-2.0-or-later
"""A dying domain: it has been destroyed, but dom0 still maps some of its pages."""

from __future__ import annotations

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.conformance.host import HostDomains


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
