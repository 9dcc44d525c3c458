# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge: a Xen that keeps to the model passes, one that does not is found out, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from harness.conformance.bare import Bare, new_bare
from harness.conformance.guest import Domains, Guest
from harness.conformance.host import HostDomains
from harness.conformance.initial_state import linux_domain, xen_bound
from harness.conformance.polls import Undecided
from harness.conformance.reference_model import Disagreement, ReferenceModel
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import (
    INT_MAX,
    Channel,
    Domain,
    GuestKind,
    SharedBits,
    State,
    Vcpu,
    World,
)
from harness.model.evtchn.operations import (
    BindInterdomain,
    BindIpi,
    BindVcpu,
    Close,
    Fault,
    Operation,
    Result,
    Send,
    SetPriority,
    Unmask,
)
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version
from harness.run.session import Session
from harness.verdict import LabError

from .model_agent import Lie, ModelHost

RELEASE = Release(4, 17)
BOTH = (Vcpu(), Vcpu())
WORLD = World(
    (
        Domain(
            0,
            privileged=True,
            vcpus=(Vcpu(control_block=True),) * 2,
            max_port=INT_MAX,
            fifo=True,
            array_pages=1,
            untouched=Channel(word=SharedBits(masked=True)),
        ),
        Domain(1, vcpus=BOTH),
        new_bare(2, GuestKind.HVM, 2, {}),
    ),
    by_version(RELEASE),
)


def domains_of(host: ModelHost) -> Domains:
    """Return the domains of ``host`` with the model that follows them, as on a real one."""
    names = {0: "dom0", 1: "domu1"}
    agents = {domid: host.agent(domid, name) for domid, name in names.items()}
    described = tuple(linux_domain(agent, GuestKind.PV) for agent in agents.values())
    domains = Domains(
        ReferenceModel(World((*described, new_bare(2, GuestKind.HVM, 2, {})), by_version(RELEASE)))
    )
    for domid, agent in agents.items():
        domains.add(Guest(domains, agent, "pv" if domid else "dom0"))
    domains.add(Bare(domains, host.agent(2, "bare"), "pvh", linux=False))
    domains.before = domains.model.world
    return domains


def story(guest: Guest) -> None:
    """Operations of every kind, as the conformance tests make them."""
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    guest.send(near)
    assert guest.poll(far)
    guest.bind_vcpu(far, 1)
    guest.unmask(far)
    guest.set_priority(near, 3)
    guest.close(near)
    guest.close(near)
    guest.status(far)
    guest.bind_ipi(1, fault=Fault.OUT)
    guest.alloc_unbound(dom=77)
    guest.domains.agree(guest)


@pytest.mark.parametrize("name", ["dom0", "domu1", "bare"])
def test_the_model_agrees_with_itself(name: str) -> None:
    domains = domains_of(ModelHost(WORLD))
    story(domains.guests[name])
    rows = {exercised.row for exercised in domains.model.exercised}
    assert {
        "close: FREE, peer UNBOUND for the closer",
        "status: reply",
        "poll: 0 at once, pending",
    } <= rows
    assert "any: EFAULT copy-out after success" in rows


def test_the_bare_guest_sees_its_memory() -> None:
    domains = domains_of(ModelHost(WORLD))
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)
    bare.begin()
    for _ in range(2):
        far = bare.alloc_unbound(bare.domid)
        near = bare.bind_interdomain(bare.domid, far)
        assert bare.take(0) == [near]
        bare.mask(far)
        bare.send(near)
        assert bare.take(0) == []
        bare.unmask(far)
        assert bare.take(0) == [far]
        bare.to_fifo()


@pytest.mark.parametrize("release", [Release(4, 14), Release(4, 17), Release(4, 20)])
def test_ports_that_xen_has_in_an_hvm_guest_outlive_its_resets(release: Release) -> None:
    bound = Channel(State.INTERDOMAIN, 0, 7, vcpu=1, consumer=True)
    unbound = Channel(State.UNBOUND, consumer=True)
    there = new_bare(2, GuestKind.HVM, 2, {3: bound, 4: unbound})
    dom0 = WORLD.domains[0].with_port(7, Channel(State.INTERDOMAIN, 2, 3))
    host = ModelHost(World((dom0, WORLD.domains[1], there), by_version(release)))
    bare, agents = host.agent(2, "bare"), [host.agent(0, "dom0"), host.agent(1, "domu1")]
    known = xen_bound(bare, agents[0])
    if by_version(release).holds(Rule.STATUS_HIDES_XEN_BOUND):
        # The vCPU, too, and nobody can ask for it.
        bound = replace(bound, vcpu=0)
    assert known == {3: bound, 4: unbound}

    described = (*(linux_domain(agent, GuestKind.PV) for agent in agents), there)
    domains = Domains(ReferenceModel(World(described, by_version(release))))
    guest = Bare(domains, bare, "hvm", linux=False)
    domains.add(guest)
    guest.begin()
    assert guest.alloc_unbound() == 1 and guest.alloc_unbound() == 2 and guest.alloc_unbound() == 5
    guest.close(3)
    guest.send(3)
    domains.agree(guest)
    guest.begin()
    assert guest.now.port(3) == there.port(3) and guest.now.port(5) == Channel()


def _answers(operation: type, code: int) -> Lie:
    def lie(made: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if isinstance(made, operation):
            return replace(outcome, result=Result(rc=code))
        return outcome

    return lie


def _does_nothing(operation: type) -> Lie:
    """Answers what it should, and leaves the world as it was."""
    kept: list[World] = []

    def lie(made: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        world = kept[-1] if kept and isinstance(made, operation) else outcome.world
        kept.append(world)
        return replace(outcome, world=world)

    return lie


def _changes(operation: type, change: Callable[[Channel], Channel]) -> Lie:
    """Does what it should, and something to port 1 besides."""

    def lie(made: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        caller = outcome.world.domain(getattr(made, "caller", -1))
        if not isinstance(made, operation) or caller is None:
            return outcome
        changed = caller.with_port(1, change(caller.port(1)))
        return replace(outcome, world=outcome.world.with_domain(changed))

    return lie


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (_answers(Send, -22), "Send.*answered -EINVAL"),
        (_answers(Close, 0), "Close.*answered 0"),
        (_answers(Unmask, -38), "Unmask.*ENOSYS"),
        (_answers(SetPriority, -1), "SetPriority.*EPERM"),
        (_does_nothing(Send), "Poll"),
        (_does_nothing(BindVcpu), "Status"),
        (_does_nothing(Close), "Status"),
        (_changes(Close, lambda c: replace(c, remote_dom=7)), "Status"),
        (_changes(BindInterdomain, lambda c: replace(c, state=State.UNBOUND)), "Status"),
    ],
)
def test_a_lie_is_found_out(lie: Lie, words: str) -> None:
    host = ModelHost(WORLD)
    domains = domains_of(host)
    host.lie = lie
    with pytest.raises(Disagreement, match=words) as found:
        story(domains.guests["dom0"])
    assert "the model of 4.17 allows" in str(found.value)
    assert "AllocUnbound" in found.value.story


@pytest.mark.parametrize("busy", [0.0, 0.3, 0.8])
def test_a_busy_machine_does_not_change_what_a_poll_is_seen_to_do(busy: float) -> None:
    """Seen: polls of a pending port took nine times as long as usual, for a while or always."""
    host = ModelHost(WORLD, busy=busy)
    dom0 = domains_of(host).guests["dom0"]
    port = dom0.bind_ipi(0)
    for _ in range(20):
        assert not dom0.poll(port)
    dom0.send(port)
    for _ in range(20):
        assert dom0.poll(port)


def test_polls_that_all_meet_an_interrupt_decide_nothing() -> None:
    host = ModelHost(WORLD, busy=1.0)
    dom0 = domains_of(host).guests["dom0"]
    port = dom0.bind_ipi(0)
    with pytest.raises(Undecided, match="takes an interrupt during nearly every poll"):
        dom0.poll(port)


def test_what_is_kept_of_the_bare_guest_is_what_it_is_after_its_peers_have_closed() -> None:
    """Seen: its reset, in the next test, seemed to give dom0 a port that dom0 had closed."""
    domains = domains_of(ModelHost(WORLD))
    dom0, bare = domains.guests["dom0"], domains.guests["bare"]
    port = bare.alloc_unbound(dom0.domid)
    dom0.bind_interdomain(bare.domid, port)
    kept = HostDomains(cast(Session, None))
    kept.end(domains, well=True)
    assert kept._bare_state is not None
    assert kept._bare_state.port(port).state is State.UNBOUND


def test_the_story_of_a_guest_that_is_lost_ends_with_what_it_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = ModelHost(WORLD)
    dom0 = domains_of(host).guests["dom0"]
    port = dom0.bind_ipi(0)

    def gone(_: object) -> Result:
        raise LabError("dom0 is gone")

    monkeypatch.setattr(host, "make", gone)
    with pytest.raises(LabError, match="gone") as lost:
        dom0.send(port)
    first, *_, last = lost.value.story.splitlines()
    assert first.startswith("dom0: BindIpi") and last == f"dom0: Send(port={port}) -> ?"


def test_a_wrong_word_in_memory_is_found_out() -> None:
    host = ModelHost(WORLD)
    domains = domains_of(host)
    bare = domains.guests["bare"]
    port = bare.bind_ipi(0)
    host.lie = _changes(Send, lambda c: replace(c, bits=replace(c.bits, masked=True)))
    with pytest.raises(Disagreement, match="masked is 0x1, not 0x0"):
        bare.send(port)


def test_a_port_that_nobody_opened_is_found_out() -> None:
    host = ModelHost(WORLD)
    domains = domains_of(host)
    host.make(BindIpi(1, 0))
    with pytest.raises(AssertionError, match="domu1's port 1"):
        domains.agree(domains.guests["domu1"])


@pytest.mark.slow
def test_a_domain_without_ports_left() -> None:
    domains = domains_of(ModelHost(WORLD))
    domu = domains.guests["domu1"]
    count, errno = domu.fill(2000)
    assert (count, errno) == (1023, 28)
    domu.alloc_unbound(DOMID_SELF)
    domu.close(1023)
    assert domu.bind_ipi(0) == 1023


def test_a_contradicted_rule_is_named_with_its_commit() -> None:
    """The tree was taken for one without the rule, and Xen answers as one with it."""
    host = ModelHost(replace(WORLD, rules=by_version(Release(4, 21))))
    domains = domains_of(host)
    with pytest.raises(Disagreement, match=r"BindVirq.*EBUSY") as found:
        domains.guests["domu1"].bind_virq(15)
    assert found.value.story.splitlines()[-1] == (
        "Xen answers as if rule virq_wants_handler held; for this tree it was found that it does "
        "not hold (eba922abdb85)"
    )
