# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU does otherwise than Xen: each line of the table is true of the model, and told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.evtchn import qemu
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import Channel, State, World
from harness.model.evtchn.operations import Close, Fault, InitControl, Operation, Send
from harness.model.evtchn.outcome import AllowedOutcome, existing_domain
from harness.model.evtchn.predict import predict
from harness.model.evtchn.qemu import TABLE, Divergence
from harness.model.evtchn.qemu_cases import GUEST, PORTS
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version

XEN = by_version(Release(4, 17))
NEW = qemu.new_world(XEN, vcpus=2)
DOCS = Path(__file__).parents[3] / "docs" / "emulation.md"


def full() -> World:
    """A guest that has used up its ports."""
    unbound = Channel(State.UNBOUND, GUEST)
    ports = ((0, Channel(State.RESERVED)), *((port, unbound) for port in range(1, PORTS)))
    return NEW.with_domain(replace(existing_domain(NEW, GUEST), ports=ports, valid=PORTS))


def before_last(each: Divergence) -> World:
    """The world in which the last of its hypercalls is made."""
    world = full() if each.full else NEW
    for operation in each.shown_by[:-1]:
        (outcome,) = predict(world, operation)
        world = outcome.world
    return world


def by_xen(world: World, operation: Operation) -> list[AllowedOutcome]:
    """What Xen would do, as QEMU's worlds."""
    outcomes = predict(qemu.as_xen(world), operation)
    return [replace(o, world=replace(o.world, rules=world.rules)) for o in outcomes]


@pytest.mark.parametrize("each", TABLE, ids=lambda each: each.name)
def test_its_hypercalls_show_it(each: Divergence) -> None:
    world, last = before_last(each), each.shown_by[-1]
    (here,) = predict(world, last)
    assert here.row == each.row
    assert all((o.result, o.world) != (here.result, here.world) for o in by_xen(world, last))


def test_names_are_there_once() -> None:
    assert len({each.name for each in TABLE}) == len(TABLE) >= 7


def test_the_page_has_the_table() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    assert rows == [(each.name, each.function, each.says) for each in TABLE]


def test_an_unknown_hypercall_is_refused_before_its_argument_is_read() -> None:
    """QEMU says so of FIFO's: the argument may be anywhere.  Any other one it copies first."""
    (fifo,) = predict(NEW, InitControl(GUEST, 0, fault=Fault.IN))
    (close,) = predict(NEW, Close(GUEST, 1, Fault.IN))
    assert (fifo.result.rc, close.result.rc) == (-38, -14)


def test_what_is_not_in_the_table_is_as_xen_does_it() -> None:
    for port in (0, 1, PORTS):
        assert [o.result for o in predict(NEW, Send(GUEST, port))] == [
            o.result for o in by_xen(NEW, Send(GUEST, port))
        ]


def test_it_is_called_qemu() -> None:
    assert str(NEW.rules) == "QEMU" and str(qemu.xen_of(NEW.rules)) == "4.17"
    assert qemu.told_ports(NEW.rules, existing_domain(NEW, GUEST)) == range(1, PORTS)
    assert DOMID_SELF not in {domain.domid for domain in NEW.domains}
