"""A domain that is destroyed and not yet gone: dom0 still maps pages of its."""

from __future__ import annotations

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.conformance.host import Watched


@pytest.mark.cells("alloc: EINVAL domain dying", "send: dropped: UNBOUND")
def test_a_dying_domain(bare: Bare, watched: Watched, dom0: Guest, domu: Guest) -> None:
    ours = dom0.alloc_unbound(bare.domid)
    bare.bind_interdomain(0, ours)
    dom0.send(ours)
    watched.destroy(bare)
    dom0.alloc_unbound(dom=bare.domid)
    domu.alloc_unbound(dom=bare.domid)  # dying comes before permission
    dom0.status(ours)
    dom0.send(ours)
    dom0.close(ours)  # xenstored and xenconsoled close theirs: nobody knows which port is next
