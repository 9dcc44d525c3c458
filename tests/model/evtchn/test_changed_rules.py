# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of the rules that changed: complete, and nothing in it that is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed_rules import BY_RULE, TABLE, ChangedRule, Rule
from harness.model.evtchn.domain import Channel, Domain, GuestKind, State, Vcpu, World
from harness.model.evtchn.operations import (
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    Operation,
    Poll,
    Reset,
    Send,
    SetPriority,
    Status,
    Unmask,
)
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import BASE, RELEASES, Release
from harness.model.evtchn.rules import BASE_RULES, Rules, by_names, by_version, differing_rows
from harness.model.evtchn.spec_rows import SPEC_ROWS

_PORTS = (
    (0, Channel(State.RESERVED)),
    (1, Channel(State.UNBOUND, 1)),
    (2, Channel(State.IPI, vcpu=1)),
    (3, Channel(State.UNBOUND, 0, consumer=True)),
)
_GUEST = Domain(
    1,
    kind=GuestKind.ARM,
    vcpus=(Vcpu(control_block=True), Vcpu()),
    fifo=True,
    array_pages=1,
    ports=_PORTS,
)
_WORLD = World((Domain(0, privileged=True), _GUEST))
_OPERATIONS: tuple[Operation, ...] = (
    *(Send(1, port) for port in range(5)),
    *(Poll(1, (port,)) for port in range(5)),
    *(Status(1, DOMID_SELF, port) for port in range(5)),
    *(Unmask(1, port) for port in range(5)),
    BindPirq(1, 3),
    BindVirq(1, 11),
    BindVirq(1, 15),
    BindVirq(1, 3),
    BindVirq(0, 3),
    BindIpi(1, 0),
    *(op(1, port) for op in (Close, Send, Unmask) for port in (2, 4000, 4100)),
    *(Poll(1, (port,)) for port in (70, 4000, 4100)),
    *(BindVcpu(1, port, 0) for port in (2, 4100)),
    *(SetPriority(1, port, 3) for port in (2, 4, 4100)),
    Status(1, DOMID_SELF, 4100),
    BindInterdomain(1, 1, 4100),
    Reset(1, DOMID_SELF, resume=True),
    Reset(1, DOMID_SELF),
)


# A domain that is back at 2L after a reset, and so has a port beyond what 2L can express.
_BEYOND = replace(_GUEST, fifo=False, valid=_GUEST.valid + 4096)
_SETS = st.frozensets(st.sampled_from(Rule)).map(lambda held: Rules(BASE, held))


def test_rules_and_rows_exist() -> None:
    assert [each.rule for each in TABLE] == list(dict.fromkeys(each.rule for each in TABLE))
    assert set(BY_RULE) == set(Rule)
    for each in TABLE:
        assert set(each.rows) <= SPEC_ROWS
        assert each.commits and each.text.files and each.says.endswith(".")
        assert all(len(commit.sha) == 12 for commit in each.commits)


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_does_not_differ_from_itself(release: Release) -> None:
    assert differing_rows(by_version(release), by_version(release)) == frozenset()


def _differs_only_as_listed(one: Rules, other: Rules, world: World, operation: Operation) -> None:
    here = predict(replace(world, rules=one), operation)
    there = {
        (o.result, replace(o.world, rules=one))
        for o in predict(replace(world, rules=other), operation)
    }
    for outcome in here:
        if (outcome.result, outcome.world) not in there:
            assert outcome.row in differing_rows(one, other)


@given(st.sampled_from(RELEASES), st.sampled_from(RELEASES), st.sampled_from(_OPERATIONS))
def test_what_differs_is_listed(one: Release, other: Release, operation: Operation) -> None:
    _differs_only_as_listed(by_version(one), by_version(other), _WORLD, operation)


@given(
    _SETS,
    st.sampled_from(Rule),
    st.sampled_from(_OPERATIONS),
    st.sampled_from([_GUEST, _BEYOND]),
    st.booleans(),
)
def test_what_one_rule_changes_is_listed(
    rules: Rules, rule: Rule, operation: Operation, guest: Domain, scarce: bool
) -> None:
    world = replace(_WORLD.with_domain(guest), scarce=scarce)
    _differs_only_as_listed(rules, replace(rules, held=rules.held ^ {rule}), world, operation)


@pytest.mark.parametrize("each", [each for each in TABLE if each.rows], ids=lambda e: e.rule)
def test_every_rule_that_names_rows_changes_an_answer(each: ChangedRule) -> None:
    if each.rule is Rule.FIFO_IS_OPTIONAL:
        return  # it is Domain.fifo_built that decides
    wants_handler = frozenset({Rule.VIRQ_WANTS_HANDLER}) - {each.rule}
    without = Rules(BASE, wants_handler)
    with_it = replace(without, held=without.held | {each.rule})
    worlds = [
        replace(_WORLD.with_domain(guest), scarce=scarce)
        for guest in (_GUEST, _BEYOND)
        for scarce in (False, True)
    ]
    assert any(
        [(o.result, replace(o.world, rules=BASE_RULES)) for o in predict(with_, operation)]
        != [(o.result, replace(o.world, rules=BASE_RULES)) for o in predict(without_, operation)]
        for world in worlds
        for with_, without_ in [(replace(world, rules=with_it), replace(world, rules=without))]
        for operation in _OPERATIONS
    )


@pytest.mark.parametrize(
    ("rule", "release", "point", "holds"),
    [
        (Rule.UNUSABLE_PORT_UNTOUCHED, Release(4, 14), 0, False),
        (Rule.UNUSABLE_PORT_UNTOUCHED, Release(4, 14), 1, True),
        (Rule.UNUSABLE_PORT_UNTOUCHED, Release(4, 14), None, True),
        (Rule.UNUSABLE_PORT_UNTOUCHED, Release(4, 12), 3, False),
        (Rule.UNUSABLE_PORT_UNTOUCHED, Release(4, 15), 0, True),
        (Rule.POLL_REJECTS_UNUSABLE, Release(4, 14), None, False),
        (Rule.STATUS_HIDES_XEN_BOUND, Release(4, 14), None, False),
        (Rule.STATUS_HIDES_XEN_BOUND, Release(4, 18), 6, True),
        (Rule.STATUS_HIDES_XEN_BOUND, Release(4, 19), 0, False),
        (Rule.FIFO_DROP_SETS_PENDING, Release(4, 12), 0, True),
        (Rule.FIFO_DROP_SETS_PENDING, Release(4, 17), 0, False),
        (Rule.EXPAND_ARRAY_CHECKS_LOCKED, Release(4, 17), 6, False),
        (Rule.EXPAND_ARRAY_CHECKS_LOCKED, Release(4, 17), 7, True),
        (Rule.EXPAND_ARRAY_CHECKS_LOCKED, Release(4, 23), None, True),
    ],
)
def test_a_rule_by_version(rule: Rule, release: Release, point: int | None, holds: bool) -> None:
    assert by_version(release, point).holds(rule) is holds


def test_rules_are_named_by_their_release_and_by_what_is_not_its_own() -> None:
    usual = by_version(Release(4, 14))
    assert str(usual) == "4.14"
    patched = replace(usual, held=usual.held ^ {Rule.POLL_REJECTS_UNUSABLE, Rule.POLL_CHECKS_VALID})
    assert str(patched) == "4.14 with poll_rejects_unusable without poll_checks_valid"
    race = replace(usual, held=usual.held | {Rule.EXPAND_ARRAY_CHECKS_LOCKED})
    assert str(race) == "4.14"  # nobody can tell, one operation at a time


def test_recorded_names_are_read_back_and_unknown_ones_left_out() -> None:
    rules = by_version(Release(4, 20))
    assert by_names(Release(4, 20), [*rules.held, "of_a_newer_harness"]) == rules
