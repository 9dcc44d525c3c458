# SPDX-License-Identifier: GPL-2.0-or-later
"""Every row of docs/spec/evtchn.md, one example each; together the coverage table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import (
    FIFO_LIMIT,
    INT_MAX,
    Channel,
    Domain,
    GuestKind,
    State,
    Vcpu,
    World,
)
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    Consume,
    ExpandArray,
    Fault,
    InitControl,
    Mask,
    Operation,
    Poll,
    RaisePirq,
    RaiseVirq,
    Reset,
    Send,
    SetPriority,
    Status,
    StatusReply,
    UnknownOp,
    Unmask,
    XenAlloc,
    XenFree,
    XenNotify,
)
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import NEWEST, Release
from harness.model.evtchn.rules import by_version
from harness.model.evtchn.spec_rows import SPEC_ROWS, coverage
from harness.model.lock.flavours import COUNTER_V2

DOM0 = Domain(
    0, privileged=True, max_port=INT_MAX, vcpus=(Vcpu(), Vcpu()), pirqs=frozenset({9, 10})
)
GUEST = Domain(1, kind=GuestKind.HVM, vcpus=(Vcpu(), Vcpu()))
WORLD = World((DOM0, GUEST), by_version(Release(4, 17)))

ALLOC = AllocUnbound(1, DOMID_SELF, 0)  # d1 port 1, for dom0
BIND = BindInterdomain(0, 1, 1)  # d0 port 1 <-> d1 port 1
PAIR: tuple[Operation, ...] = (ALLOC, BIND)
FIFO: tuple[Operation, ...] = (InitControl(1, 0), ExpandArray(1))
XEN: tuple[Operation, ...] = (XenAlloc(1, 0),)  # d1 port 1, Xen's


def with_guest(**changes: object) -> World:
    return WORLD.with_domain(replace(GUEST, **changes))  # type: ignore[arg-type]


def full(domain: Domain) -> World:
    """A world in which ``domain`` has one port at most, taken."""
    return WORLD.with_domain(replace(domain, max_port=1).with_port(1, Channel(State.IPI)))


SCARCE = replace(WORLD, scarce=True)
# All of the first bucket is in use: the next port needs a new one.
BUCKET_FULL = replace(GUEST, ports=tuple((n, Channel(State.IPI)) for n in range(64)))


@dataclass(frozen=True)
class Case:
    """``op`` after ``setup``: one outcome rests on ``row`` and has result code ``code``."""

    row: str
    op: Operation
    code: int = 0
    setup: tuple[Operation, ...] = ()
    world: World = WORLD
    writer_inside: bool = False


CASES = (
    Case("any: EFAULT copy-in", AllocUnbound(1, DOMID_SELF, 0, Fault.IN), -14),
    Case("any: EFAULT copy-out after success", AllocUnbound(1, DOMID_SELF, 0, Fault.OUT), -14),
    Case("any: ENOSYS unknown command", UnknownOp(1, 99), -38),
    Case("alloc: EINVAL domain dying", BindIpi(1, 0), -22, world=with_guest(dying=True)),
    Case("alloc: ENOSPC no port below the limits", BindIpi(1, 0), -28, world=full(GUEST)),
    Case(
        "alloc: ENOMEM no bucket",
        BindIpi(1, 0),
        -12,
        world=replace(SCARCE.with_domain(BUCKET_FULL), scarce=True),
    ),
    Case("alloc: first free port", BindIpi(1, 0), 2, (ALLOC,)),
    Case(
        "alloc: busy port skipped",
        BindIpi(1, 0),
        2,
        (*FIFO, BindIpi(1, 0), Send(1, 1), Close(1, 1)),
    ),
    Case("alloc: any free port of a partial domain", ALLOC, 7, world=with_guest(partial=True)),
    Case("alloc_unbound: ESRCH", AllocUnbound(0, 5, 0), -3),
    Case("alloc_unbound: EPERM not privileged over dom", AllocUnbound(1, 0, 1), -1),
    Case("alloc_unbound: UNBOUND", AllocUnbound(0, 1, 0), 1),
    Case("bind_interdomain: ESRCH", BindInterdomain(0, 5, 1), -3),
    Case("bind_interdomain: EINVAL remote port not valid", BindInterdomain(0, 1, 64), -22),
    Case(
        "bind_interdomain: EINVAL remote port not unbound for the caller",
        BindInterdomain(1, DOMID_SELF, 1),
        -22,
        (ALLOC,),
    ),
    Case("bind_interdomain: both INTERDOMAIN, local pending", BIND, 1, (ALLOC,)),
    Case("bind_virq: EINVAL virq out of range", BindVirq(1, 24), -22),
    Case("bind_virq: EINVAL global virq on vcpu != 0", BindVirq(1, 2, 1), -22),
    Case("bind_virq: ENOENT vcpu", BindVirq(1, 0, 2), -2),
    Case(
        "bind_virq: EBUSY not the handler",
        BindVirq(1, 3),
        -16,
        world=replace(WORLD, rules=by_version(NEWEST)),
    ),
    Case("bind_virq: EEXIST", BindVirq(1, 3), -17, (BindVirq(1, 3),)),
    Case(
        "bind_virq: ENOMEM domain states",
        BindVirq(0, 3),
        -12,
        world=replace(WORLD, rules=by_version(NEWEST), scarce=True),
    ),
    Case("bind_virq: VIRQ", BindVirq(1, 0, 1), 1),
    Case("bind_ipi: ENOENT vcpu", BindIpi(1, 2), -2),
    Case("bind_ipi: IPI", BindIpi(1, 1), 1),
    Case("bind_pirq: EINVAL pirq out of range", BindPirq(0, 256), -22),
    Case("bind_pirq: EPERM no access", BindPirq(0, 8), -1),
    Case("bind_pirq: EEXIST", BindPirq(0, 9), -17, (BindPirq(0, 9),)),
    Case("bind_pirq: ENOMEM pirq info", BindPirq(0, 9), -12, world=SCARCE),
    Case("bind_pirq: error from the host irq", BindPirq(0, 9), -16),
    Case("bind_pirq: no PIRQs on Arm", BindPirq(1, 9), -12, world=with_guest(kind=GuestKind.ARM)),
    Case("bind_pirq: PIRQ on vcpu 0", BindPirq(1, 9), 1),
    Case("close: EINVAL not valid", Close(1, 64), -22),
    Case("close: EINVAL Xen-bound", Close(1, 1), -22, XEN),
    Case("close: EINVAL FREE or RESERVED", Close(1, 0), -22),
    Case("close: FREE", Close(1, 1), 0, (ALLOC,)),
    Case("close: FREE, peer UNBOUND for the closer", Close(1, 1), 0, PAIR),
    Case("send: EINVAL not valid", Send(1, 64), -22),
    Case("send: EINVAL Xen-bound", Send(1, 1), -22, XEN),
    Case("send: EINVAL state has no peer", Send(1, 1), -22, (BindVirq(1, 0),)),
    Case("send: peer pending", Send(0, 1), 0, PAIR),
    Case("send: Xen consumer called", Send(0, 1), 0, (*XEN, BIND)),
    Case("send: own port pending (IPI)", Send(1, 1), 0, (BindIpi(1, 1),)),
    Case("send: dropped: UNBOUND", Send(1, 1), 0, (ALLOC,)),
    Case("send: dropped: writer inside", Send(0, 1), 0, PAIR, writer_inside=True),
    Case("status: ESRCH", Status(0, 5, 1), -3),
    Case("status: EINVAL not valid", Status(1, DOMID_SELF, 64), -22),
    Case("status: EACCES Xen-bound", Status(1, DOMID_SELF, 1), -13, XEN),
    Case("status: EPERM", Status(1, 0, 1), -1),
    Case("status: reply", Status(0, 1, 1), 0, PAIR),
    Case("status: closed", Status(0, 1, 1), 0),
    Case("bind_vcpu: ENOENT vcpu", BindVcpu(1, 1, 2), -2, PAIR),
    Case("bind_vcpu: EINVAL not valid", BindVcpu(1, 64, 1), -22),
    Case("bind_vcpu: EINVAL Xen-bound", BindVcpu(1, 1, 1), -22, XEN),
    Case("bind_vcpu: EINVAL state or per-vCPU VIRQ", BindVcpu(1, 1, 1), -22, (BindVirq(1, 0),)),
    Case("bind_vcpu: notify vCPU moved, pending stays", BindVcpu(1, 1, 1), 0, (*PAIR, Send(0, 1))),
    Case("unmask: EINVAL not valid", Unmask(1, 64), -22),
    Case("unmask: no-op, not usable", Unmask(1, 1), 0),
    Case("unmask: unmasked, nothing pending", Unmask(1, 1), 0, (ALLOC, Mask(1, 1))),
    Case("unmask: unmasked, redelivered", Unmask(1, 1), 0, (*PAIR, Mask(1, 1), Send(0, 1))),
    Case("unmask: dropped: writer inside", Unmask(1, 1), 0, PAIR, writer_inside=True),
    Case("set_priority: EINVAL not valid", SetPriority(1, 64, 1), -22),
    Case("set_priority: ENOSYS 2L", SetPriority(1, 1, 1), -38),
    Case("set_priority: EACCES not usable", SetPriority(1, 1, 1), -13, FIFO),
    Case("set_priority: EINVAL priority", SetPriority(1, 1, 16), -22, (*FIFO, ALLOC)),
    Case("set_priority: priority for future events", SetPriority(1, 1, 15), 0, (*FIFO, ALLOC)),
    Case(
        "set_priority: dropped: writer inside",
        SetPriority(1, 1, 15),
        0,
        (*FIFO, ALLOC),
        writer_inside=True,
    ),
    Case("reset: ESRCH", Reset(0, 5), -3),
    Case("reset: EPERM", Reset(1, 0), -1),
    Case("reset: EINVAL other domain not paused", Reset(0, 1), -22),
    Case("reset: EBUSY", Reset(1, DOMID_SELF, resume=True), -16),
    Case("reset: all closed but Xen-bound, back to 2L", Reset(1, DOMID_SELF), 0, (*FIFO, *PAIR)),
    Case(
        "init_control: EOPNOTSUPP no FIFO built",
        InitControl(1, 0),
        -95,
        world=with_guest(fifo_built=False),
    ),
    Case("init_control: ENOENT vcpu", InitControl(1, 2), -2),
    Case("init_control: EINVAL offset", InitControl(1, 0, 4), -22),
    Case("init_control: ENOMEM", InitControl(1, 0), -12, world=SCARCE),
    Case("init_control: EINVAL already mapped", InitControl(1, 0), -22, FIFO),
    Case("init_control: EINVAL bad page", InitControl(1, 0, 0, False), -22),
    Case("init_control: switched to FIFO", InitControl(1, 0), 0),
    Case("init_control: control block mapped", InitControl(1, 1), 0, FIFO),
    Case("expand_array: EOPNOTSUPP not FIFO", ExpandArray(1), -95),
    Case("expand_array: ENOSPC", ExpandArray(1), -28, FIFO, with_guest(array_pages=0)),
    Case("expand_array: EINVAL bad page", ExpandArray(1, False), -22, FIFO),
    Case("expand_array: 1024 more words, saved events raised", ExpandArray(1), 0, FIFO),
    Case("poll: EINVAL more than 128 ports", Poll(1, (1,) * 129), -22),
    Case("poll: EINVAL not valid", Poll(1, (64,)), -22),
    Case("poll: EINVAL not usable", Poll(1, (1,)), -22),
    Case("poll: 0 at once, upcall deliverable", Poll(1, (1,)), 0, (*PAIR, Send(0, 1))),
    Case("poll: 0 at once, pending", Poll(1, (1,)), 0, (*PAIR, Mask(1, 1), Send(0, 1))),
    Case("poll: blocks", Poll(1, (1,)), 0, PAIR),
    Case("poll: not pending: writer inside", Poll(1, (1,)), 0, PAIR, writer_inside=True),
    Case("raise_virq: not bound", RaiseVirq(1, 3)),
    Case("raise_virq: pending on the notify vCPU", RaiseVirq(1, 3), 0, (BindVirq(1, 3),)),
    Case(
        "raise_virq: dropped: writer inside",
        RaiseVirq(1, 3),
        0,
        (BindVirq(1, 3),),
        writer_inside=True,
    ),
    Case("raise_pirq: not bound", RaisePirq(0, 9)),
    Case("raise_pirq: pending on the notify vCPU", RaisePirq(0, 9), 0, (BindPirq(0, 9),)),
    Case(
        "raise_pirq: dropped: writer inside",
        RaisePirq(0, 9),
        0,
        (BindPirq(0, 9),),
        writer_inside=True,
    ),
    Case("xen: port allocated", XenAlloc(1, 0), 1),
    Case("xen: allocation failed", XenAlloc(1, 0), -28, world=full(GUEST)),
    Case("xen: port freed", XenFree(1, 1), 0, XEN),
    Case("xen: freed nothing, domain dying", XenFree(1, 1), world=with_guest(dying=True)),
    Case("xen: peer pending", XenNotify(1, 1), 0, (*XEN, BIND)),
    Case("xen: notify: no peer", XenNotify(1, 1), 0, XEN),
    Case("xen: notify: domain dying", XenNotify(1, 1), world=with_guest(dying=True)),
    Case(
        "xen: notify dropped: writer inside", XenNotify(1, 1), 0, (*XEN, BIND), writer_inside=True
    ),
    Case("guest: mask set", Mask(1, 1), 0, PAIR),
    Case("guest: event taken", Consume(1, 1), 0, PAIR),
)


def outcomes_of(case: Case) -> tuple[AllowedOutcome, ...]:
    world = case.world
    for operation in case.setup:
        first = predict(world, operation)[0]
        assert first.result.rc == 0, f"setup: {operation}: {first.rows}"
        world = first.world
    if case.row == "expand_array: ENOSPC":  # 127 more pages
        guest = world.domain(1)
        assert guest is not None
        world = world.with_domain(replace(guest, array_pages=FIFO_LIMIT // 1024))
    return predict(world, case.op, flavour=COUNTER_V2, writer_inside=case.writer_inside)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_row(case: Case) -> None:
    outcomes = outcomes_of(case)
    seen = {(row, outcome.result.code) for outcome in outcomes for row in outcome.rows}
    assert (case.row, case.code) in seen


def test_every_row_has_its_case() -> None:
    table = coverage(case.row for case in CASES)
    missing = [line.row for line in table if not line.times]
    assert not missing
    assert len(table) == len(SPEC_ROWS)


def test_status_tells_peer_and_port() -> None:
    (outcome,) = outcomes_of(Case("", Status(0, 1, 1), 0, PAIR))
    assert outcome.result.status == StatusReply(2, 0, dom=0, detail=1)


def test_coverage_rejects_a_name_that_is_no_row() -> None:
    with pytest.raises(ValueError, match="no such rows: close: EWHAT"):
        coverage(["close: EWHAT"])
