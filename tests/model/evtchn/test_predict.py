# SPDX-License-Identifier: GPL-2.0-or-later
"""Effects on channels: peers, masks, pending bits, ABIs, releases, components."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import (
    PORT_0,
    Channel,
    Domain,
    GuestKind,
    SharedBits,
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
    InitControl,
    Mask,
    Operation,
    Poll,
    RaiseVirq,
    Reset,
    Send,
    SetPriority,
    Status,
    Unmask,
    XenAlloc,
)
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import BASE, NEWEST, RELEASES, Release
from harness.model.evtchn.rules import by_version
from harness.model.lock.flavours import COUNTER, COUNTER_V2, RWLOCK, SPINLOCK, Flavour, Site

GUEST = Domain(1, kind=GuestKind.HVM, vcpus=(Vcpu(), Vcpu()))
WORLD = World(
    (Domain(0, privileged=True, vcpus=(Vcpu(), Vcpu())), GUEST), by_version(Release(4, 17))
)
PAIR = (AllocUnbound(1, DOMID_SELF, 0), BindInterdomain(0, 1, 1))


def after(*operations: Operation, world: World = WORLD) -> World:
    for operation in operations:
        outcome = predict(world, operation)[0]
        assert outcome.result.rc == 0, outcome.rows
        world = outcome.world
    return world


def codes(world: World, operation: Operation) -> set[int]:
    return {outcome.result.code for outcome in predict(world, operation)}


def channel(world: World, domid: int, port: int) -> Channel:
    domain = world.domain(domid)
    assert domain is not None
    return domain.port(port)


def pending(world: World, domid: int, port: int) -> bool:
    domain = world.domain(domid)
    assert domain is not None
    return domain.pending(port)


def test_bind_interdomain_sets_only_the_local_port_pending() -> None:
    world = after(*PAIR)
    assert pending(world, 0, 1)
    assert not pending(world, 1, 1)


def test_close_leaves_the_peer_unbound_for_the_closer_with_its_bits() -> None:
    world = after(*PAIR, Mask(1, 1), Send(0, 1), Close(0, 1))
    peer = channel(world, 1, 1)
    assert (peer.state, peer.remote_dom) == (State.UNBOUND, 0)
    assert peer.bits == SharedBits(pending=True, masked=True)
    assert channel(world, 0, 1).state is State.FREE
    assert not pending(world, 0, 1)


def test_close_does_not_touch_the_mask_and_the_next_user_of_the_port_finds_it() -> None:
    world = after(*PAIR, Mask(1, 1), Close(1, 1), AllocUnbound(1, DOMID_SELF, 0))
    assert channel(world, 1, 1) == Channel(State.UNBOUND, 0, bits=SharedBits(masked=True))


def test_loopback_closes_into_an_unbound_port_of_the_same_domain() -> None:
    world = after(AllocUnbound(1, DOMID_SELF, DOMID_SELF), BindInterdomain(1, DOMID_SELF, 1))
    assert channel(world, 1, 2).remote_port == 1
    world = after(Close(1, 2), world=world)
    assert (channel(world, 1, 1).state, channel(world, 1, 1).remote_dom) == (State.UNBOUND, 1)


def test_a_remote_end_that_belongs_to_xen_stays_so() -> None:
    world = after(XenAlloc(1, 0), BindInterdomain(0, 1, 1))
    assert channel(world, 1, 1).consumer
    assert after(Send(0, 1), world=world) == world  # the callback runs, no bit is set


def test_sends_coalesce_into_one_bit() -> None:
    once = after(*PAIR, Send(0, 1))
    assert after(Send(0, 1), world=once) == once


def test_a_global_virq_goes_where_bind_vcpu_moved_it() -> None:
    world = after(BindVirq(1, 3), BindVcpu(1, 1, 1), RaiseVirq(1, 3))
    guest = world.domain(1)
    assert guest is not None
    assert [vcpu.upcall for vcpu in guest.vcpus] == [False, True]


def test_unmask_delivers_again_only_what_was_masked_and_pending() -> None:
    world = after(*PAIR, Mask(1, 1), Send(0, 1))
    guest = after(Unmask(1, 1), world=world).domain(1)
    assert guest is not None
    assert guest.vcpus[0].upcall
    assert channel(world, 1, 1).bits == SharedBits(pending=True, masked=True)
    assert guest.port(1).bits == SharedBits(pending=True)


def test_a_poller_wakes_by_its_own_port_only() -> None:
    world = after(*PAIR, AllocUnbound(1, DOMID_SELF, 0), Poll(1, (2,), vcpu=1))
    guest = world.domain(1)
    assert guest is not None and guest.vcpus[1].polling == (2,)
    sent = after(Send(0, 1), world=world).domain(1)
    assert sent is not None and sent.vcpus[1].polling == (2,)


def test_a_poller_of_several_ports_wakes_by_any_port() -> None:
    two = AllocUnbound(1, DOMID_SELF, 0)
    guest = after(*PAIR, two, two, Poll(1, (2, 3), vcpu=1), Send(0, 1)).domain(1)
    assert guest is not None and guest.vcpus[1].polling is None


def test_a_deliverable_upcall_ends_a_poll_unless_upcalls_are_disabled() -> None:
    world = after(*PAIR, Send(0, 1))
    (at_once, sees) = predict(world, Poll(1, (2,)))
    assert at_once.rows == ("poll: 0 at once, upcall deliverable",)
    assert sees.result.code == -22  # port 2 is not usable


def test_fifo_saves_events_until_their_page_comes() -> None:
    world = after(*PAIR, InitControl(1, 0), Send(0, 1))
    assert channel(world, 1, 1).saved
    assert not pending(world, 1, 1)
    assert pending(after(ExpandArray(1), world=world), 1, 1)


def test_fifo_switch_saves_2l_bits_and_reset_shows_them_again() -> None:
    world = after(*PAIR, Mask(1, 1), Send(0, 1), InitControl(1, 0))
    assert channel(world, 1, 1).saved
    assert channel(world, 1, 1).bits.pending
    world = after(Reset(1, DOMID_SELF), world=world)
    guest = world.domain(1)
    assert guest is not None and not guest.fifo
    assert pending(world, 1, 1)  # a spurious event, on a FREE port


def test_saved_is_never_cleared_so_expand_array_may_raise_an_event_on_a_free_port() -> None:
    world = after(*PAIR, InitControl(1, 0), Send(0, 1), Close(1, 1), ExpandArray(1))
    assert channel(world, 1, 1).state is State.FREE
    assert pending(world, 1, 1)


def test_a_closed_port_keeps_its_priority_until_it_is_allocated_anew() -> None:
    """evtchn_free() leaves it, evtchn_fifo_init() sets it: seen on Xen by random sequences."""
    waiting = (*PAIR, InitControl(1, 0), Send(0, 1), SetPriority(1, 1, 0))
    world = after(*waiting, Close(1, 1), ExpandArray(1))
    guest = world.domain(1)
    assert guest is not None
    assert guest.vcpus[0].ready == {0}
    world = after(*waiting, Close(1, 1), AllocUnbound(1, DOMID_SELF, 0), ExpandArray(1))
    guest = world.domain(1)
    assert guest is not None
    assert guest.vcpus[0].ready == {7}


def test_the_switch_to_fifo_gives_every_port_the_default_priority() -> None:
    earlier = (InitControl(1, 0), Send(0, 1), SetPriority(1, 1, 0), Close(1, 1))
    world = after(*PAIR, *earlier, Reset(1, DOMID_SELF), InitControl(1, 0), ExpandArray(1))
    guest = world.domain(1)
    assert guest is not None
    assert guest.vcpus[0].ready == {7}


def test_a_port_that_was_never_bound_has_priority_0_where_it_can_be_unmasked() -> None:
    """Port 0, and with FIFO the ports of new buckets.  Seen by `fuzz` on 4.14.0."""
    waits = SharedBits(pending=True, masked=True)
    bound = tuple((port, Channel(State.IPI)) for port in range(1, 64))
    guest = Domain(
        1,
        vcpus=(Vcpu(control_block=True),),
        fifo=True,
        array_pages=1,
        ports=((0, replace(PORT_0, word=waits)), *bound),
    )
    world = World((guest,), rules=by_version(Release(4, 14), 0))
    assert ready(after(Unmask(1, 0), world=world)) == {0}
    world = after(BindIpi(1, 0), world=world)  # port 64
    assert ready(after(Send(1, 64), world=world)) == {7}
    (grown,) = world.domains
    free = replace(grown.port(65), word=waits)
    world = replace(world, domains=(grown.with_port(65, free),))
    assert ready(after(Unmask(1, 65), world=world)) == {0}


def ready(world: World) -> frozenset[int]:
    (domain,) = world.domains
    return domain.vcpus[0].ready


def test_fifo_priority_chooses_the_queue_and_only_a_new_head_makes_an_upcall() -> None:
    fifo = (InitControl(1, 0), ExpandArray(1))
    world = after(*fifo, *PAIR, SetPriority(1, 1, 3), Send(0, 1))
    guest = world.domain(1)
    assert guest is not None
    assert guest.vcpus[0].ready == {3}
    assert guest.port(1).queue == (0, 3)


def test_a_linked_port_is_busy_until_the_guest_takes_it() -> None:
    fifo = (InitControl(1, 0), ExpandArray(1))
    world = after(*fifo, *PAIR, Send(0, 1), Close(1, 1))
    assert codes(world, AllocUnbound(1, DOMID_SELF, 0)) == {2}
    world = after(Consume(1, 1), world=world)
    assert codes(world, AllocUnbound(1, DOMID_SELF, 0)) == {1}


def test_valid_grows_by_buckets_and_stays() -> None:
    taken = tuple((port, Channel(State.IPI)) for port in range(64))
    world = WORLD.with_domain(replace(GUEST, ports=taken))
    assert codes(world, Unmask(1, 64)) == {-22}
    world = after(AllocUnbound(1, DOMID_SELF, 0), Close(1, 64), world=world)
    assert codes(world, Unmask(1, 64)) == {0}


@pytest.mark.parametrize(
    ("release", "expected"),
    [(Release(4, 14), {0}), (BASE, {-13}), (Release(4, 17), {-13}), (Release(4, 20), {0})],
)
def test_status_of_a_xen_bound_port_by_release(release: Release, expected: set[int]) -> None:
    world = after(XenAlloc(1, 0), world=replace(WORLD, rules=by_version(release)))
    assert codes(world, Status(1, DOMID_SELF, 1)) == expected


def test_poll_of_an_unusable_port_by_release() -> None:
    answers = {r: codes(replace(WORLD, rules=by_version(r)), Poll(1, (1,))) for r in RELEASES}
    assert answers[Release(4, 14)] == {0}  # as not pending: it blocks
    assert all(answers[r] == {-22} for r in RELEASES[1:])


def test_bind_pirq_on_arm_by_release() -> None:
    arm = WORLD.with_domain(replace(GUEST, kind=GuestKind.ARM))
    assert codes(replace(arm, rules=by_version(Release(4, 17))), BindPirq(1, 5)) == {-12}
    assert codes(replace(arm, rules=by_version(Release(4, 20))), BindPirq(1, 5)) == {-95}
    assert codes(replace(arm, rules=by_version(Release(4, 17))), BindPirq(1, 0xFFFFFFF)) == {-22}
    assert codes(replace(arm, rules=by_version(Release(4, 20))), BindPirq(1, 0xFFFFFFF)) == {-95}


def test_argo_is_per_domain_since_4_21() -> None:
    newest = replace(WORLD, rules=by_version(NEWEST))
    assert codes(newest, BindVirq(1, 11)) == {1}
    assert codes(newest, BindVirq(1, 3)) == {-16}
    assert codes(newest, BindVirq(0, 3)) == {1}


@pytest.mark.parametrize(
    ("flavour", "may"), [(SPINLOCK, False), (COUNTER, True), (COUNTER_V2, True), (RWLOCK, False)]
)
def test_a_send_may_be_dropped_by_flavour_and_only_beside_a_writer(
    flavour: Flavour, may: bool
) -> None:
    world = after(*PAIR)
    alone = predict(world, Send(0, 1), flavour=flavour)
    beside = predict(world, Send(0, 1), flavour=flavour, writer_inside=True)
    assert len(alone) == 1
    assert (len(beside) == 2) is may
    if may:
        assert beside[1].world == world


def test_only_v2_forgets_an_unmask() -> None:
    may = {f.name: f.may_drop(Site.UNMASK) for f in (SPINLOCK, COUNTER, COUNTER_V2, RWLOCK)}
    assert may == {"spinlock": False, "counter": False, "counter-v2": True, "rwlock": False}


def test_a_writer_does_not_hide_an_error_that_comes_before_the_lock() -> None:
    outcomes = predict(WORLD, Send(0, 64), flavour=COUNTER, writer_inside=True)
    assert {outcome.result.code for outcome in outcomes} == {-22}


def test_one_component_alone_predicts_as_the_whole_world_does() -> None:
    ends = [Domain(domid, partial=True, ports=((0, Channel(State.RESERVED)),)) for domid in (0, 1)]
    component = World(tuple(ends), by_version(Release(4, 17)))
    opened = [o for o in predict(component, AllocUnbound(1, DOMID_SELF, 0)) if o.result.port == 5]
    (bound,) = [o for o in predict(opened[0].world, BindInterdomain(0, 1, 5)) if o.result.port == 9]
    (sent,) = predict(bound.world, Send(0, 9))
    assert pending(sent.world, 1, 5)
    assert hash(sent.world) == hash(predict(bound.world, Send(0, 9))[0].world)


def test_outcomes_are_in_a_fixed_order_without_duplicates() -> None:
    world = World((replace(GUEST, domid=0, kind=GuestKind.PV, pirqs=frozenset({5})),), scarce=True)
    found = [o.result.code for o in predict(world, BindPirq(0, 5))]
    assert found == [1, -12, -22, -16, -12]
    assert len({(o.result, o.world, o.rows) for o in predict(world, BindPirq(0, 5))}) == 5


def test_only_ports_that_there_are_keep_their_pending_bit_in_the_switch_to_fifo() -> None:
    """A guest may set bits in the shared page itself, far behind its last port."""
    pending = Channel(bits=SharedBits(pending=True))
    domain = Domain(1, valid=64, ports=((0, Channel(State.RESERVED)), (63, pending), (64, pending)))
    (switched,) = predict(World((domain,)), InitControl(1, 0))
    after = switched.world.domains[0]
    assert (after.port(63).saved, after.port(64).saved) == (True, False)
