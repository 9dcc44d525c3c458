# SPDX-License-Identifier: GPL-2.0-or-later
"""EVTCHNOP_reset, init_control, expand_array in Linux domains: only what Xen refuses."""

from __future__ import annotations

import pytest

from harness.conformance.guest import Guest

NOBODY = 0x7FEF
LAST_OFFSET = 4096 - 72  # a control block has 72 bytes


@pytest.mark.cells("reset: ESRCH", "reset: EPERM", "reset: EINVAL other domain not paused")
def test_reset_of_others(dom0: Guest, domu: Guest) -> None:
    dom0.reset(NOBODY)
    domu.reset(NOBODY)
    domu.reset(0)
    domu.reset(0, resume=True)
    dom0.reset(domu.domid)
    dom0.reset(domu.domid, resume=True)


@pytest.mark.cells(
    "init_control: ENOENT vcpu",
    "init_control: EINVAL offset",
    "init_control: EINVAL already mapped",
)
def test_control_blocks(guest: Guest) -> None:
    guest.init_control(len(guest.now.vcpus), offset=1)
    guest.init_control(0xFFFFFFFF)
    guest.init_control(0, offset=LAST_OFFSET + 8)
    guest.init_control(0, offset=4)
    guest.init_control(0, offset=LAST_OFFSET)
    guest.init_control(1)
    guest.set_priority(guest.alloc_unbound(), 3)  # the ABI has not changed


@pytest.mark.cells("expand_array: EOPNOTSUPP not FIFO", "expand_array: EINVAL bad page")
def test_event_arrays(guest: Guest) -> None:
    guest.expand_array()
    guest.domains.agree(guest)
