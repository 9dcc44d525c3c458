# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest inside xen-shim; the model stands for both: what is late, what is lost."""

from __future__ import annotations

from typing import Any

import pytest

from harness.conformance import in_shim
from harness.conformance.guest import Domains
from harness.conformance.in_shim import InShim, new_in_shim
from harness.conformance.reference_model import Disagreement, ReferenceModel
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Channel, Domain, GuestKind, State, Vcpu, World
from harness.model.evtchn.operations import Operation
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version

from . import model_agent
from .model_agent import ModelHost

GUEST = 3
LATE = 3  # looks until an event is there
TOOLS = tuple((port, Channel(State.INTERDOMAIN, 0, port)) for port in (1, 2))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> ModelHost:
    """A Xen with dom0 and the guest, whose xenstore and console have the first two ports."""
    monkeypatch.setattr(in_shim, "_PAUSE", 0.0)
    monkeypatch.setattr(in_shim, "_INJECTED_SECONDS", 0.2)
    dom0 = tuple((port, Channel(State.INTERDOMAIN, GUEST, port)) for port in (1, 2))
    reserved = (0, Channel(State.RESERVED))
    guest = Domain(GUEST, GuestKind.SHIM, (Vcpu(),) * 2, ports=(reserved, *TOOLS))
    world = World((Domain(0, privileged=True, ports=(reserved, *dom0)), guest))
    return ModelHost(replace(world, rules=by_version(Release(4, 17))), linux=frozenset())


def guest(host: ModelHost) -> InShim:
    """The guest in a test that has just begun."""
    agent = host.agent(GUEST, "bare")
    agent.hello()
    model = ReferenceModel(replace(host.world, domains=(host.domain(0), new_in_shim(agent))))
    domains = Domains(model)
    bare = InShim(domains, agent, "shim", linux=False)
    domains.add(bare)
    bare.begin()
    return bare


def late(monkeypatch: pytest.MonkeyPatch, looks: int) -> list[int]:
    """Have the first ``looks`` looks see no event; return the list of all looks."""
    made: list[int] = []
    now = model_agent._Channel._look

    def look(channel: Any, words: dict[str, str]) -> str:
        made.append(1)
        domain = channel._host.domain(channel._domid)
        quiet = tuple((p, replace(c, bits=type(c.bits)())) for p, c in domain.ports)
        vcpus = tuple(replace(v, upcall=False, selectors=frozenset()) for v in domain.vcpus)
        world = channel._host.world
        if len(made) <= looks:
            old = replace(domain, ports=quiet, vcpus=vcpus)
            channel._host.world = world.with_domain(old)
        said = now(channel, words)
        channel._host.world = world
        return said

    monkeypatch.setattr(model_agent._Channel, "_look", look)
    return made


def test_an_event_that_comes_late_is_waited_for(
    host: ModelHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = guest(host)
    port = bare.bind_ipi(1)
    looks = late(monkeypatch, LATE)
    bare.send(port)
    assert len(looks) == LATE + 1
    assert bare.take(1) == [port]


def test_an_event_that_never_comes_is_told(
    host: ModelHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = guest(host)
    port = bare.bind_ipi(1)
    late(monkeypatch, 10_000)
    with pytest.raises(Disagreement, match="pending is 0x0, not 0x1"):
        bare.send(port)


def test_a_test_begins_with_the_toolstacks_ports_and_no_other(host: ModelHost) -> None:
    bare = guest(host)
    bare.bind_interdomain(bare.domid, bare.alloc_unbound(bare.domid))
    bare.begin()
    for domain in (bare.now, host.domain(GUEST)):
        assert {port for port, channel in domain.ports if channel.state} == {0, 1, 2}
    assert not bare.spent


def test_a_lost_port_spends_the_guest(host: ModelHost) -> None:
    bare = guest(host)
    port = bare.alloc_unbound()
    bare.close(port)
    bare.close(port)
    assert bare.spent
    assert bare.alloc_unbound() < 0


def test_a_shim_that_does_as_xen_is_told(host: ModelHost) -> None:
    def mended(operation: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if outcome.row.startswith("shim: reset"):
            return replace(outcome, result=replace(outcome.result, rc=-95))
        return outcome

    bare = guest(host)
    host.lie = mended
    with pytest.raises(Disagreement, match="Reset"):
        bare.reset(DOMID_SELF)
