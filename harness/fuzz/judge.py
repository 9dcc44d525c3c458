# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges what a guest has seen in a programme, and says in evidence what is wrong.

The model has followed the programme already, so in the good case bytes are compared.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import length_hint

from harness.conformance.bare import expected_events
from harness.conformance.hypercalls import Observed
from harness.conformance.reference_model import Disagreement, ReferenceModel
from harness.evidence import Difference, Disallowed, Evidence, WrongAnswer, WrongState
from harness.evidence import Operation as Call
from harness.fuzz.batches import Batch
from harness.fuzz.follow import Expected, Follower
from harness.fuzz.orders import Unexplained
from harness.fuzz.programme import (
    DOM0,
    OTHER_DOMAIN,
    SEEN,
    Bit,
    Flag,
    Seen,
    SeenBits,
    Step,
    What,
    decode_seen,
)
from harness.fuzz.rounds import Made, Round, answered
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import World
from harness.model.evtchn.operations import Poll, StatusReply

_DOMAIN = "bare"
_DOM0 = "dom0"
_MOST_TOLD = 24  # calls in one line
_NOTICES = 0xFFFF


class Followed:
    """A programme, and what must be seen after each of its steps."""

    def __init__(self, steps: Sequence[Step], world: World, domid: int, vcpu: int) -> None:
        self.steps = steps
        self.before = world
        self.domid = domid
        self.vcpu = vcpu
        follower = Follower(world, domid, vcpu)
        self.expected = [follower.follow(step) for step in steps]
        self.after = follower.world
        pack = SEEN.pack
        self._bytes = b"".join([pack(*each.seen) for each in self.expected])

    def wrong(self, seen: bytes) -> int | None:
        """Return the number of the first step after which something else was ``seen`` than is
        allowed; None: there is none."""
        if seen == self._bytes:
            return None
        for at, (expected, now) in enumerate(zip(self.expected, decode_seen(seen), strict=True)):
            if not expected.allows(now):
                return at
        return None


@dataclass(frozen=True)
class Wrong:
    """What a real Xen has done in a programme that the model does not allow."""

    evidence: Evidence
    step: int  # its number
    calls: tuple[str, ...]  # the steps until then, in the programme's order, with their results

    @property
    def lines(self) -> tuple[str, str]:
        """It in two lines: what is wrong, and the calls that show it; of very many, the last."""
        from harness.evidence import words

        left_out = len(self.calls) - _MOST_TOLD
        first = [f"({left_out} before)"] if left_out > 0 else []
        return words.message(self.evidence), "; ".join([*first, *self.calls[-_MOST_TOLD:]])


def explain(followed: Followed, seen: Sequence[Seen], at: int) -> Wrong:
    """Return what is wrong with what was ``seen`` after step ``at``, the first wrong one."""
    follower = Follower(followed.before, followed.domid, followed.vcpu)
    calls = []
    for step, now in zip(followed.steps[:at], seen, strict=False):
        calls.append(f"{told(follower, step)} = {answer(step, now)}")
        follower.follow(step)
    step, now = followed.steps[at], seen[at]
    calls.append(f"{told(follower, step)} = {answer(step, now)}")
    evidence = _answer_is_wrong(follower, step, now) or _state_is_wrong(
        follower, step, now, followed.expected[at]
    )
    return Wrong(evidence, at, tuple(calls))


def slept_only(expected: Expected, seen: Seen) -> bool:
    """Say whether all that is wrong is that a poll has slept, or has not: on a busy machine one
    that returned at once may have taken as long."""
    return (expected.seen.bits ^ seen.bits) == SeenBits.SLEPT and (
        expected.seen._replace(bits=0) == seen._replace(bits=0)
    )


@dataclass(frozen=True)
class Differs:
    """Programmes of one vCPU; after step ``at`` something else was seen than what must be."""

    batch: Batch
    followed: Followed
    seen: Sequence[Seen]
    at: int

    @property
    def certain(self) -> bool:
        """Say whether it is more than a poll that took long."""
        return not slept_only(self.followed.expected[self.at], self.seen[self.at])


def _answer_is_wrong(follower: Follower, step: Step, seen: Seen) -> Evidence | None:
    operation = follower.operation(step)
    if operation is None:
        return _wrong_take(follower, step, seen) if step.what == What.TAKE else None
    model = ReferenceModel(follower.world, {follower.domid: _domain(follower.domid)})
    try:
        model.judge(operation, _observed(operation, step, seen))
    except Disagreement as error:
        return error.evidence
    return None


def _observed(operation: object, step: Step, seen: Seen) -> Observed:
    status = None
    if step.what == What.STATUS and seen.result == 0:
        told = seen.told
        status = StatusReply(told & 0xFF, told >> 8 & 0xFF, told >> 16, seen.detail)
    blocked = None
    if isinstance(operation, Poll) and seen.result == 0 and not step.flags & Flag.PAST:
        blocked = bool(seen.bits & SeenBits.SLEPT)
    return Observed(seen.result, status, blocked)


def _wrong_take(follower: Follower, step: Step, seen: Seen) -> Evidence | None:
    vcpu = step.number % len(follower.domain.vcpus)
    ports = expected_events(follower.domain, vcpu)
    expected = Follower(follower.world, follower.domid).follow(step).seen
    if (seen.result, seen.detail) == (expected.result, expected.detail):
        return None
    return WrongAnswer(
        operation=Call(domain=_DOMAIN, verb="take", arguments={"vcpu": vcpu}, result=seen.result),
        seen=f"{seen.result} events",
        allowed=(f"{len(ports)} events, of ports {ports}",),
        release=str(follower.world.rules),
    )


def _state_is_wrong(follower: Follower, step: Step, seen: Seen, expected: Expected) -> WrongState:
    port = follower.port(step)
    pairs: list[tuple[str, int, int]] = []
    for bit in (SeenBits.PENDING, SeenBits.MASKED, SeenBits.LINKED):
        names = (str(bit.name).lower(), int(bool(seen.bits & bit)))
        pairs.append((*names, int(bool(expected.seen.bits & bit))))
    for vcpu in range(2):
        mask = int(SeenBits.UPCALL) << vcpu
        there = int(bool(seen.bits & mask)), int(bool(expected.seen.bits & mask))
        pairs.append((f"upcall of vCPU {vcpu}", *there))
        if step.what != What.STATUS or seen.result:
            told = [each.told >> 16 * vcpu & _NOTICES for each in (seen, expected.seen)]
            pairs.append((f"notices of vCPU {vcpu}", told[0], told[1]))
    differ = [Difference(name=name, seen=s, expected=e) for name, s, e in pairs if s != e]
    if not differ:
        differ = [Difference(name="result", seen=seen.result, expected=expected.seen.result)]
    return WrongState(
        domain=_domain(follower.domid),
        port=port,
        vcpu=follower.vcpu,
        differences=tuple(differ),
        release=str(follower.world.rules),
    )


def explain_rounds(wrong: Unexplained, domid: int) -> Wrong:
    """Return what is wrong with a round of two sides that nothing explains, and the calls since the
    last reset."""
    made = [one for each in wrong.since for one in _in_order(each)]
    if wrong.step is not None:
        made = made[: made.index(wrong.step) + 1]
    resets = [at for at, one in enumerate(made) if one.step.what == What.BEGIN]
    made = made[resets[-1] if resets else 0 :]
    begin = min((one.seen.call for one in made), default=0)
    clocks = len(wrong.before.domains) == 1
    followers = {each.domid: Follower(wrong.before, each.domid) for each in wrong.before.domains}
    calls = [_call(followers[one.domid], one, begin if clocks else None) for one in made]
    return Wrong(_of_round(wrong), len(calls) - 1, tuple(calls))


def _in_order(each: Round) -> list[Made]:
    """Return what was made in a round by the clock; of two domains, that of each for itself."""
    made = [*each.made[0], *each.made[1]]
    if len({one.domid for one in made}) > 1:
        return made
    return sorted(made, key=lambda made: made.seen.call)


def _call(follower: Follower, made: Made, begin: int | None) -> str:
    """Return what was made, for people; with its times since ``begin``, if the sides have one
    clock."""
    text = f"{told(follower, made.step)} = {answer(made.step, made.seen.seen)}"
    if made.step.what == What.LOOK:
        bits = SeenBits(made.seen.seen.bits & (SeenBits.PENDING | SeenBits.MASKED))
        text = f"{told(follower, made.step)}: {str(bits.name or 'nothing').lower()}"
    if begin is None:
        return f"{'dom0' if made.in_dom0 else 'guest'} {text}"
    return f"vCPU {made.vcpu} [{made.seen.call - begin}..{made.seen.ret - begin}] {text}"


def _of_round(wrong: Unexplained) -> Evidence:
    if wrong.step is None:
        return Disallowed(property="order", operations=_operations(_in_order(wrong.round)))
    step, seen, expected = wrong.step.step, wrong.step.seen.seen, wrong.expected
    assert expected is not None
    before = answered(wrong.before, wrong.step) if wrong.step.in_dom0 else wrong.before
    follower = Follower(before, wrong.step.domid, wrong.step.vcpu)
    told_differs = step.what == What.STATUS and seen[2:] != expected[2:]
    if seen.result != expected.result or told_differs or step.what == What.TAKE:
        evidence = _answer_is_wrong(follower, step, seen)
        if evidence is not None:
            return evidence
    return _state_is_wrong(follower, step, seen, Expected(expected))


def _operations(made: Sequence[Made]) -> tuple[Call, ...]:
    begins = {d: min(o.seen.call for o in made if o.domid == d) for d in {o.domid for o in made}}
    return tuple(
        Call(
            domain=_domain(one.domid),
            vcpu=0 if one.in_dom0 else one.vcpu,
            verb=What(one.step.what).name.lower(),
            arguments={"port": one.seen.port, "value": one.seen.value},
            result=one.seen.seen.result,
            begin=one.seen.call - begins[one.domid],
            end=one.seen.ret - begins[one.domid],
        )
        for one in made
    )


# -- a programme for people --------------------------------------------------------------------


def told(follower: Follower, step: Step) -> str:
    """Return ``step`` as a person would write it, in the state in which ``follower`` is."""
    what = What(step.what)
    words = _WORDS[what](follower, step)
    for flag in (Flag.FAULT_IN, Flag.FAULT_OUT, Flag.BAD_FRAME):
        if step.flags & flag:
            words.append(str(flag.name).lower().replace("_", "-"))
    return f"{what.name.lower()}({', '.join(words)})"


def told_of_two(
    follower: Follower, both: Sequence[Sequence[Step]], *, in_dom0: bool = False
) -> tuple[str, ...]:
    """Return what both sides make, meeting by meeting, as a person would write it.

    ``in_dom0``: the second side is dom0.  Which ports it is given is not known: slots are named.
    """
    if in_dom0:
        follower.slots[:] = range(len(follower.slots))
    calls = []
    rest = [iter(part) for part in both]
    names = ("guest", "dom0") if in_dom0 else ("vCPU 0", "vCPU 1")
    while any(length_hint(part) for part in rest):
        for side, name in enumerate(names):
            for step in takewhile(lambda step: step.what != What.MEET, rest[side]):
                text = told(follower, step)
                if in_dom0 and step.flags & Flag.PORT_OF_SLOT:
                    text = text.replace("port=", "slot=")
                calls.append(f"{name} {text}")
                if not in_dom0:
                    follower.follow(step)
        calls.append("they meet")
    return tuple(calls[:-1])


def answer(step: Step, seen: Seen) -> str:
    """Return what ``seen`` says of the answer to ``step``."""
    if seen.result < 0:
        return f"-{errno.errorcode.get(-seen.result, -seen.result)}"
    if step.what == What.STATUS:
        return f"state {seen.told & 0xFF}"
    if step.what == What.POLL:
        slept = "slept" if seen.bits & SeenBits.SLEPT else "0"
        return slept
    return str(seen.result)


def _domain(domid: int) -> str:
    return _DOM0 if domid == DOM0 else _DOMAIN


def _domid(value: int) -> str:
    names = {DOMID_SELF: "DOMID_SELF", OTHER_DOMAIN: "the other"}
    return names.get(value, str(value))


def _port(f: Follower, s: Step) -> list[str]:
    return [f"port={f.port(s)}"]


def _bit(f: Follower, s: Step) -> list[str]:
    return [f"port={f.port(s)}", Bit(s.number).name.lower()]


def _poll(f: Follower, s: Step) -> list[str]:
    ports = [] if s.number == 0 else [str(f.port(s)), *([str(f.value(s))] if s.number > 1 else [])]
    times = [f"{s.number} ports"] if s.number > 2 else []
    past = ["time-out in the past"] if s.flags & Flag.PAST else []
    return [f"ports={','.join(ports)}", *times, *past]


def _nothing(f: Follower, s: Step) -> list[str]:
    return []


_WORDS = {
    What.ALLOC_UNBOUND: lambda f, s: [f"dom={_domid(s.port)}", f"remote={_domid(f.value(s))}"],
    What.BIND_INTERDOMAIN: lambda f, s: [f"dom={_domid(f.value(s))}", f"port={f.port(s)}"],
    What.BIND_VIRQ: lambda f, s: [f"virq={s.port}", f"vcpu={f.value(s)}"],
    What.BIND_PIRQ: lambda f, s: [f"pirq={s.port}"],
    What.BIND_IPI: lambda f, s: [f"vcpu={f.value(s)}"],
    What.CLOSE: _port,
    What.SEND: _port,
    What.UNMASK: _port,
    What.LOOK: _port,
    What.STATUS: lambda f, s: [f"dom={_domid(f.value(s))}", f"port={f.port(s)}"],
    What.BIND_VCPU: lambda f, s: [f"port={f.port(s)}", f"vcpu={f.value(s)}"],
    What.SET_PRIORITY: lambda f, s: [f"port={f.port(s)}", f"priority={f.value(s)}"],
    What.INIT_CONTROL: lambda f, s: [f"vcpu={s.number}", f"offset={s.value}"],
    What.UNKNOWN_COMMAND: lambda f, s: [str(s.value)],
    What.TAKE: lambda f, s: [f"vcpu={s.number}"],
    What.SET_BIT: _bit,
    What.CLEAR_BIT: _bit,
    What.POLL: _poll,
    What.DELAY: lambda f, s: [f"ns={s.value}"],
    What.RESET: _nothing,
    What.RESET_CONT: _nothing,
    What.BEGIN: _nothing,
    What.EXPAND_ARRAY: _nothing,
    What.MEET: _nothing,
    What.CLOSE_ALL: _nothing,
}
