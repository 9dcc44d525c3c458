# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's emulation in the conformance suite, where QEMU is the model: as recorded, and not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.conformance.bare import Bare
from harness.conformance.emulated import XEN, EmulatedDomains, show
from harness.conformance.reference_model import Disagreement
from harness.conformance.sequences import run_random
from harness.model.evtchn import qemu
from harness.model.evtchn.operations import BindInterdomain, Operation, Result
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.evtchn.qemu_cases import GUEST

from .model_agent import Lie, ModelHost

BY_NAME = {each.name: each for each in qemu.TABLE}


def guest(lie: Lie | None = None) -> Bare:
    """The guest of a QEMU that is the model, in a test that has just begun."""
    host = ModelHost(qemu.new_world(XEN, vcpus=2), linux=frozenset())
    host.lie = lie or host.lie
    live: Any = SimpleNamespace(agent=host.agent(GUEST, "guest"))
    domains = EmulatedDomains(live)
    return domains.bare(domains.begin())


def as_xen(operation: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
    """Refuse what QEMU refuses, with the error number of Xen."""
    if not outcome.row.startswith(qemu.ROW):
        return outcome
    (xen,) = predict(replace(outcome.world, rules=XEN), operation)
    return replace(outcome, result=xen.result)


@pytest.mark.parametrize("each", [e for e in qemu.TABLE if not e.full], ids=lambda each: each.name)
def test_each_divergence_is_told_in_two_lines(each: qemu.Divergence) -> None:
    bare = guest()
    first, second = show(bare, each).lines
    assert first == f"{each.name}: {each.says} [{each.function}]"
    assert second.count(";") == len(each.shown_by) - 1 and "(Xen: " in second
    assert {row for _, row in bare.domains.model.differences} >= {each.row}
    assert bare.domains.model.unlisted() == []


def test_the_hypercalls_are_those_of_a_person() -> None:
    assert show(guest(), BY_NAME["close-of-a-closed-port"]).lines[1] == (
        "alloc_unbound(owner=DOMID_SELF, remote=DOMID_SELF) = 1; close(port=1) = 0; "
        "close(port=1) = -ENOENT (Xen: -EINVAL)"
    )


def test_what_qemu_has_mended_is_told_as_that() -> None:
    """Close of a closed port: EINVAL, as Xen has it, is no longer as recorded."""
    with pytest.raises(Disagreement) as caught:
        show(guest(as_xen), BY_NAME["close-of-a-closed-port"])
    assert "QEMU answered -EINVAL, the model of QEMU allows -ENOENT" in str(caught.value)
    assert "close-of-a-closed-port of harness/model/evtchn/qemu.py is no more" in caught.value.story


def test_what_is_neither_xens_nor_recorded_is_told_with_what_was_recorded() -> None:
    def lie(operation: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        loop = isinstance(operation, BindInterdomain)
        return replace(outcome, result=Result(rc=-12)) if loop else outcome

    with pytest.raises(Disagreement) as caught:
        show(guest(lie), BY_NAME["bind-interdomain-sends-nothing"])
    assert "recorded of QEMU: bind_interdomain leaves the new local port" in caught.value.story
    assert "is no more" not in caught.value.story


def test_every_port_is_listed_from_1_on() -> None:
    bare = guest()
    bare.alloc_unbound()
    bare.domains.agree(bare)


@pytest.mark.slow
def test_random_sequences_agree() -> None:
    bare = guest()
    counts = run_random([bare], bare.domains.close_opened, 3.0, 7)
    assert counts.operations > 100 and not counts.disagreements, counts.disagreements[0].story
    assert bare.domains.model.unlisted() == []
