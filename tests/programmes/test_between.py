# SPDX-License-Identifier: GPL-2.0-or-later
"""Duels of the guest and dom0: what some order explains is right, and what none explains is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evidence import Disallowed, WrongAnswer, WrongState
from harness.fuzz import hunt as hunt_module
from harness.fuzz.batches import Batch, batches
from harness.fuzz.between import between_domains, with_domids
from harness.fuzz.follow import Follower
from harness.fuzz.hunt import Found, Hunt
from harness.fuzz.judge import told_of_two
from harness.fuzz.kept import kept
from harness.fuzz.orders import RoundJudge, RoundsJudged
from harness.fuzz.programme import (
    DOM0,
    MAX_STEPS,
    OTHER_DOMAIN,
    Flag,
    Seen,
    SeenBits,
    Step,
    TimedSeen,
    What,
    encode,
)
from harness.fuzz.programme_file import read_file, write_file
from harness.fuzz.rounds import rounds
from harness.fuzz.sections import between_meetings
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import State
from harness.model.lock.flavours import COUNTER, FLAVOURS, RWLOCK, Flavour
from harness.verdict import ConfigError

from .model_domains import BESIDE, MODEL_DOM0, GuestAndDom0
from .model_guest import DOMID, WORLD, Lie, encode_timed

_OF_SLOT = int(Flag.PORT_OF_SLOT)
_MEET = Step(What.MEET)
_OWN_OF = (What.CLOSE, What.SEND, What.UNMASK, What.BIND_VCPU)


def _batch(chance: Random) -> Batch:
    guest, dom0 = between_domains(chance)
    return Batch(guest, 0, dom0, in_dom0=True)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1 << 32), st.sampled_from(sorted(FLAVOURS)))
def test_what_the_model_makes_in_some_order_is_never_wrong(seed: int, name: str) -> None:
    chance, flavour = Random(seed), FLAVOURS[name]
    hunt = Hunt(GuestAndDom0(chance, flavour=flavour), WORLD, DOMID, flavour, dom0=MODEL_DOM0)
    for _ in range(2):
        found = hunt.batch(_batch(chance))
        assert found is None, found.wrong.lines
    counts = hunt.counts
    assert counts.two_domains == counts.concurrent > 400
    assert counts.undecided < counts.operations / 50


# -- lies ------------------------------------------------------------------------------------


def _found(seed: int, lie: Lie, monkeypatch: pytest.MonkeyPatch) -> Found | None:
    """Have a lying Xen hunted for one programme, and what it shows made shorter for a second."""
    monkeypatch.setattr(hunt_module, "_SECONDS_OF_TWO", 1.0)
    monkeypatch.setattr("harness.fuzz.sections._STEPS_AT_ONCE", 200)
    chance = Random(seed)
    guest = GuestAndDom0(chance, lie)
    hunt = Hunt(guest, WORLD, DOMID, RWLOCK, dom0=MODEL_DOM0, shorter_seconds=20.0)
    return hunt.batch(_batch(chance))


def _is_dom0(follower: Follower) -> bool:
    return follower.domid == DOM0


def _status_of_the_peer(follower: Follower, step: Step, seen: Seen) -> Seen:
    """close-wrong-peer: after a close the other end waits for its own domain."""
    if step.what != What.STATUS or seen.told & 0xFF != 1 or seen.told >> 16 == DOMID_SELF:
        return seen
    channel = follower.domain.port(follower.port(step))
    left = channel.state is State.UNBOUND and channel.remote_dom == seen.told >> 16
    return seen._replace(told=1 | follower.domid << 16) if left else seen


def test_a_wrong_peer_is_found_and_told_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _found(1, _status_of_the_peer, monkeypatch)
    assert found is not None and found.seen_again
    assert isinstance(found.wrong.evidence, WrongAnswer)
    assert len(found.batch.steps) + len(found.batch.second) < 16
    assert found.batch.in_dom0
    assert found.wrong.calls[-1].partition(" ")[0] in ("guest", "dom0")


@pytest.mark.parametrize("in_dom0", [False, True])
def test_a_close_that_is_refused_is_found(in_dom0: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        wrong = step.what == What.CLOSE and seen.result == 0 and _is_dom0(follower) is in_dom0
        return seen._replace(result=-22) if wrong else seen

    found = next(filter(None, (_found(seed, lie, monkeypatch) for seed in range(3, 9))), None)
    assert found is not None
    closes = [call for call in found.wrong.calls if "close(" in call]
    assert closes and any(call.startswith("dom0" if in_dom0 else "guest") for call in closes)


def test_an_event_on_a_port_that_was_never_sent_to_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        closed = step.what == What.STATUS and step.port == 1 and seen.told & 0xFF == 0
        if not closed or _is_dom0(follower) or seen.bits & SeenBits.PENDING:
            return seen
        return seen._replace(bits=seen.bits | SeenBits.PENDING)

    found = _found(5, lie, monkeypatch)
    assert found is not None and isinstance(found.wrong.evidence, WrongState)


# -- single rounds ---------------------------------------------------------------------------

_CLOSE_1 = Step(What.CLOSE, port=1)
_ALLOC = Step(What.ALLOC_UNBOUND, port=DOMID_SELF, value=DOM0)
_BIND = Step(What.BIND_INTERDOMAIN, port=1, value=DOMID)


def _judged(
    guest: Sequence[tuple[Step, int]],
    dom0: Sequence[tuple[Step, int]],
    flavour: Flavour = RWLOCK,
) -> RoundsJudged:
    """Judge what was answered; the calls of dom0 seem to be long before those of the guest."""
    steps = [step for step, _ in guest], [step for step, _ in dom0]
    seen = tuple(
        encode_timed(
            TimedSeen(Seen(result, 0), call, call + 1, step.port, step.value)
            for step, result in part
        )
        for call, part in ((10**9, guest), (0, dom0))
    )
    found = rounds(steps, (seen[0], seen[1]), DOMID, second=DOM0)
    return RoundJudge(DOMID, flavour).judge(found, BESIDE, None)


def test_clocks_of_two_domains_are_not_compared() -> None:
    for bound in (17, -22):
        judged = _judged([(_ALLOC, 1), (_CLOSE_1, 0)], [(_BIND, bound)])
        assert judged.wrong is None and judged.concurrent == 3


def test_what_no_order_explains_is_wrong_with_any_clock() -> None:
    """dom0 has bound to the port, and the guest closes it twice."""
    judged = _judged([(_ALLOC, 1), (_CLOSE_1, 0), (_CLOSE_1, 0)], [(_BIND, 17)])
    assert judged.wrong is not None and judged.wrong.step is None


def test_dom0_is_never_given_a_port_that_it_has() -> None:
    alloc = Step(What.ALLOC_UNBOUND, port=DOMID_SELF, value=DOMID)
    assert not _judged([], [(alloc, 9), (alloc, 5), (alloc, 200)]).wrong
    assert _judged([], [(alloc, 9), (alloc, 9)]).wrong
    assert _judged([], [(alloc, 9), (_MEET, 0), (alloc, 9)]).wrong


def test_a_port_that_dom0_opens_in_the_guest_is_the_first_free_one() -> None:
    alloc = Step(What.ALLOC_UNBOUND, port=DOMID, value=DOMID_SELF)
    assert not _judged([], [(alloc, 1), (alloc, 2)]).wrong
    assert _judged([], [(alloc, 1), (alloc, 3)]).wrong


def test_a_send_may_be_dropped_under_a_writer_of_the_other_domain() -> None:
    """The guest's port is closed all the time: without the drop it is refused."""
    send = Step(What.SEND, port=1)
    dom0 = [(Step(What.ALLOC_UNBOUND, port=DOMID_SELF, value=DOMID), 9)]
    assert _judged([(send, 0)], dom0, RWLOCK).wrong
    assert not _judged([(send, 0)], dom0, COUNTER).wrong
    assert _judged([(send, 0)], [], COUNTER).wrong, "nobody writes"


def test_closing_all_that_dom0_has_opened_must_succeed() -> None:
    close_all = Step(What.CLOSE_ALL)
    opened = (Step(What.ALLOC_UNBOUND, port=DOMID_SELF, value=DOMID), 9)
    assert not _judged([], [opened, (close_all, 0), opened]).wrong
    assert _judged([], [opened, (close_all, -22)]).wrong


def test_after_a_missed_meeting_nothing_more_is_said_in_this_programme() -> None:
    """What dom0 has open is not known any more, and no reset of the guest tells it."""
    begin = Step(What.BEGIN)
    judged = _judged(
        [(_MEET, -110), (_ALLOC, 1), (_MEET, 0), (begin, 0), (_ALLOC, 7)],
        [(_BIND, -22), (_MEET, 0), (_MEET, 0)],
    )
    assert judged.wrong is None
    assert (judged.operations, judged.undecided) == (0, 4)


# -- programmes ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1 << 32))
def test_what_is_made_can_be_sent_kept_and_read_again(seed: int) -> None:
    guest, dom0 = between_domains(Random(seed))
    assert guest[0].what == What.BEGIN and dom0[0].what == What.MEET
    assert max(len(guest), len(dom0)) < MAX_STEPS
    parts = between_meetings(guest), between_meetings(dom0)
    assert len(parts[0]) == len(parts[1])
    for one, other in zip(*parts, strict=True):
        whats = {step.what for step in other}
        assert What.BEGIN not in {step.what for step in one} or not other
        assert What.CLOSE_ALL not in whats or not one
    encode([*guest, *dom0])
    assert between_domains(Random(seed)) == (guest, dom0)


def test_each_domain_changes_only_its_own_ports() -> None:
    """Others of dom0's are Linux's."""
    for seed in range(50):
        guest, dom0 = between_domains(Random(seed))
        for steps, opens in ((guest, {1, 3}), (dom0, {2, 4})):
            changed = {step.port for step in steps if step.what in _OWN_OF}
            assert changed <= opens
            binds = {step.slot for step in steps if step.what == What.BIND_INTERDOMAIN}
            assert binds <= opens


def test_each_domain_is_named_by_the_domid_that_it_has() -> None:
    both = between_domains(Random(1))
    guest, dom0 = with_domids(both, 7)
    kinds = {What.ALLOC_UNBOUND, What.BIND_INTERDOMAIN, What.STATUS}
    for own, other in ((guest, DOM0), (dom0, 7)):
        named = {step.value for step in own if step.what in kinds}
        named |= {step.port for step in own if step.what == What.ALLOC_UNBOUND}
        assert named <= {other, DOMID_SELF}
        assert other in named
    send = Step(What.SEND, port=OTHER_DOMAIN, value=OTHER_DOMAIN)
    assert with_domids(((send,), (send,)), 7) == ((send,), (send,))


def test_some_batches_are_of_two_domains_where_dom0_has_a_part() -> None:
    def kinds(with_dom0: bool) -> set[bool]:
        made = batches(1, with_dom0=with_dom0)
        return {next(made).in_dom0 for _ in range(30)}

    assert kinds(True) == {True, False} and kinds(False) == {False}


# -- files -----------------------------------------------------------------------------------

_KNOWN = {"host": "h", "guest": "arm", "flavour": "f", "xen": "4.17", "seed": 1, "message": "m"}


class _Plan:
    """What ``kept`` asks of a plan."""

    seed = 1

    class hypervisor:
        class flavour:
            name = "counter"

        class source:
            version = "4.17"


def test_a_programme_in_a_file_is_the_same_again(tmp_path: Path) -> None:
    batch = _batch(Random(2))
    name, file = kept(_Plan, "h", "arm", batch, "wrong")  # type: ignore[arg-type]
    write_file(tmp_path / name, file)
    again = read_file(tmp_path / name)
    assert again.batch() == batch
    assert again.dom0 and not again.second


@pytest.mark.parametrize(
    ("steps", "dom0", "said"),
    [
        ([{"what": "BEGIN"}], [{"what": "CLOSE_ALL"}], "has to be MEET"),
        ([{"what": "BEGIN"}, {"what": "CLOSE_ALL"}], [{"what": "MEET"}], "CLOSE_ALL is for dom0"),
        ([{"what": "BEGIN"}], [{"what": "MEET"}, {"what": "RESET"}], "dom0 makes no such step"),
        (
            [{"what": "BEGIN"}],
            [{"what": "MEET"}, {"what": "SEND", "flags": ["FAULT_IN"]}],
            "no such",
        ),
        (
            [{"what": "BEGIN"}, {"what": "MEET"}, {"what": "BEGIN"}],
            [{"what": "MEET"}, {"what": "SEND"}],
            "BEGIN is for vCPU 0 while dom0 waits",
        ),
        (
            [{"what": "BEGIN"}, {"what": "MEET"}, {"what": "SEND"}],
            [{"what": "MEET"}, {"what": "CLOSE_ALL"}],
            "CLOSE_ALL is for dom0 while vCPU 0 waits",
        ),
    ],
)
def test_a_file_that_cannot_be_judged_is_refused(
    tmp_path: Path, steps: list[dict[str, object]], dom0: list[dict[str, object]], said: str
) -> None:
    import json

    path = tmp_path / "programme-x.json"
    path.write_text(json.dumps({**_KNOWN, "vcpu": 0, "steps": steps, "dom0": dom0}))
    with pytest.raises(ConfigError, match=said):
        read_file(path)


def test_a_file_has_a_second_vcpu_or_dom0(tmp_path: Path) -> None:
    import json

    path = tmp_path / "programme-x.json"
    both = {"second": [{"what": "MEET"}], "dom0": [{"what": "MEET"}]}
    path.write_text(json.dumps({**_KNOWN, "vcpu": 0, "steps": [{"what": "BEGIN"}], **both}))
    with pytest.raises(ConfigError, match="not both"):
        read_file(path)


def test_a_hang_is_told_by_slots() -> None:
    """Which ports dom0 was given is not known."""
    close = Step(What.CLOSE, _OF_SLOT, port=2)
    alloc = Step(What.ALLOC_UNBOUND, slot=2, port=DOMID_SELF, value=OTHER_DOMAIN)
    told = told_of_two(Follower(WORLD, DOMID), ((_MEET, close), (alloc, _MEET)), in_dom0=True)
    first = "dom0 alloc_unbound(dom=DOMID_SELF, remote=the other)"
    assert told == (first, "they meet", "guest close(slot=2)")


def test_evidence_names_both_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        wrong = step.what == What.BIND_INTERDOMAIN and seen.result > 0 and _is_dom0(follower)
        return seen._replace(result=-12) if wrong else seen

    found = _found(8, lie, monkeypatch)
    assert found is not None
    evidence = found.wrong.evidence
    if isinstance(evidence, Disallowed):
        assert {each.domain for each in evidence.operations} <= {"bare", "dom0"}
    else:
        assert isinstance(evidence, WrongAnswer) and evidence.operation.domain == "dom0"
