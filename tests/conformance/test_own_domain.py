# SPDX-License-Identifier: GPL-2.0-or-later
"""What dom0 asks a Xen with which it does not come up: right answers pass, a wrong one is named."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.arch import Arch
from harness.conformance.own_domain import ask_own_domain
from harness.conformance.reference_model import Disagreement
from harness.evidence import WrongAnswer
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import State
from harness.model.evtchn.operations import AllocUnbound, Operation, StatusReply
from harness.model.evtchn.outcome import AllowedOutcome

from .model_agent import Lie, ModelHost
from .test_reference_model import WORLD


def ask(lie: Lie | None = None) -> int:
    (dom0,) = (domain for domain in WORLD.domains if domain.domid == 0)
    host = ModelHost(replace(WORLD, domains=(replace(dom0, vcpus=dom0.vcpus[:1]),)))
    host.lie = lie or host.lie
    live: Any = SimpleNamespace(
        host=SimpleNamespace(arch=Arch.X86_64),
        rules=SimpleNamespace(rules=WORLD.rules),
        agents={"dom0": host.agent(0, "dom0")},
        domus=[SimpleNamespace(name="domu1", type="pv")],  # started, its agent not yet reached
    )
    return ask_own_domain(live)


def test_a_xen_that_keeps_to_the_model_has_nothing_wrong() -> None:
    assert ask() > 80


def test_a_domid_that_is_kept_as_it_was_given_is_found_and_the_hypercall_named() -> None:
    """The caller's DOMID_SELF must be replaced; xen-init-dom0 says "Invalid argument" if not."""

    def keep(operation: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        reply = outcome.result.status
        if isinstance(reply, StatusReply) and reply.status == State.UNBOUND - 1 and reply.dom == 0:
            return replace(
                outcome,
                result=replace(outcome.result, status=replace(reply, dom=DOMID_SELF)),
            )
        return outcome

    with pytest.raises(Disagreement) as caught:
        ask(keep)
    seen = caught.value.evidence
    assert isinstance(seen, WrongAnswer) and seen.after is not None
    assert (seen.after.verb, seen.operation.verb) == ("AllocUnbound", "Status")
    assert "after AllocUnbound(dom DOMID_SELF, remote dom DOMID_SELF): Status(" in str(caught.value)
    assert f"dom={DOMID_SELF}" in seen.seen and "dom=0" in seen.allowed[0]


def test_a_refusal_is_named_by_itself() -> None:
    def refuse(operation: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if isinstance(operation, AllocUnbound):
            return replace(outcome, result=replace(outcome.result, rc=-22))
        return outcome

    with pytest.raises(Disagreement, match=r"AllocUnbound\(.*Xen answered -EINVAL") as caught:
        ask(refuse)
    seen = caught.value.evidence
    assert isinstance(seen, WrongAnswer) and seen.after is None
