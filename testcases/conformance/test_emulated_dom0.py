# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU in the place of dom0, at the other end of the guest's channels (QEMU's emulation only)."""

from __future__ import annotations

import pytest

from harness.conformance.bare import Bare
from harness.conformance.emulated import Dom0


@pytest.fixture
def qemu(bare: Bare) -> Dom0:
    """QEMU's own ends."""
    return Dom0(bare)


def test_a_channel_to_qemu(bare: Bare, qemu: Dom0) -> None:
    theirs = bare.alloc_unbound(remote=0)
    ours = qemu.bind_interdomain(theirs)
    bare.send(theirs)
    bare.send(theirs)
    assert qemu.take(ours) and not qemu.take(ours)
    bare.bind_vcpu(theirs, 1)
    qemu.send(ours)
    assert bare.take(1) == [theirs]
    bare.mask(theirs)
    qemu.send(ours)
    assert bare.take(1) == []
    bare.unmask(theirs)
    assert bare.take(1) == [theirs]


def test_either_end_is_closed_and_bound_again(bare: Bare, qemu: Dom0) -> None:
    theirs = bare.alloc_unbound(remote=0)
    ours = qemu.bind_interdomain(theirs)
    bare.close(theirs)
    assert bare.bind_interdomain(0, ours) == theirs
    bare.send(theirs)
    assert qemu.take(ours)
    qemu.close(ours)
    bare.send(theirs)  # to nobody
    assert qemu.bind_interdomain(theirs) == ours
    qemu.send(ours)
    assert bare.take(0) == [theirs]
    bare.domains.agree(bare)


def test_two_channels(bare: Bare, qemu: Dom0) -> None:
    first = bare.alloc_unbound(remote=0)
    pairs = [(qemu.bind_interdomain(first), first)]
    other = bare.alloc_unbound(remote=0)
    pairs.append((qemu.bind_interdomain(other), other))
    for ours, theirs in pairs:
        bare.send(theirs)
        assert qemu.take(ours)
        qemu.send(ours)
    assert bare.take(0) == [theirs for _, theirs in pairs]


def test_what_qemu_cannot_bind_to(bare: Bare, qemu: Dom0) -> None:
    qemu.bind_interdomain(0)
    qemu.bind_interdomain(9)
    qemu.bind_interdomain(bare.bind_ipi(0))
    qemu.bind_interdomain(bare.bind_virq(7))
    qemu.bind_interdomain(0xFFFF)
