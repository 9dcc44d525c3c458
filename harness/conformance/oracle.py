"""The reference model as a judge, operation by operation, while a real Xen makes them.

    oracle = Oracle(world)
    oracle.judge(Close(caller=1, port=5), Observed(code=0))

keeps the world that the model believes in, and raises Disagreement for an answer that the
model of the running release does not allow.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from harness.conformance.hypercalls import Observed
from harness.evidence import Operation as Call
from harness.evidence import WrongAnswer
from harness.model.channels import predict
from harness.model.differences import differing_rows
from harness.model.domain import Domain, World
from harness.model.operations import Fault, Operation, Result
from harness.model.outcome import Outcome
from harness.model.releases import Release
from harness.verdict import HarnessError, HypervisorError

_TOLD = 24  # operations that led to a disagreement, in its story
_UPCALL = "poll: 0 at once, upcall deliverable"


class Disagreement(HypervisorError):
    """Real Xen answered what the model of its release does not allow.

    ``story`` has the operations before it, one a line.
    """


@dataclass(frozen=True)
class Exercised:
    """A row of the specification that a real answer was matched with."""

    domid: int  # the caller's; of what Xen does itself, the domain's
    fifo: bool  # the ABI that domain used then
    row: str


@dataclass
class Oracle:
    """One world and what has been seen of it; ``names`` of domains are for messages."""

    world: World
    names: dict[int, str] = field(default_factory=dict)
    exercised: list[Exercised] = field(default_factory=list)
    others: tuple[Release, ...] = ()  # releases whose models are asked, too
    differences: set[tuple[Release, str]] = field(default_factory=set)  # release, row
    operations: int = 0
    _told: list[str] = field(default_factory=list)

    def domain(self, domid: int) -> Domain:
        """Return what the model believes of the domain."""
        found = self.world.domain(domid)
        if found is None:
            raise HarnessError(f"domain {domid} is not in the model's world")
        return found

    def expected(self, operation: Operation) -> tuple[Outcome, ...]:
        """Return all that the model allows ``operation`` to do now."""
        return predict(self.world, operation)

    def judge(self, operation: Operation, seen: Observed) -> Outcome:
        """Take note that ``operation`` was made and what was seen of it; return which of the
        allowed outcomes that was.  Raises Disagreement if it was none."""
        self.operations += 1
        outcomes = self.expected(operation)
        self._told.append(f"{self.describe(operation)} -> {_code(seen)}")
        fitting = [outcome for outcome in outcomes if seen.fits(outcome.result)]
        if not fitting:
            where = self.names.get(_domid(operation), "xen")
            raise Disagreement(
                WrongAnswer(
                    operation=Call(
                        domain=where,
                        verb=type(operation).__name__,
                        arguments=_arguments(operation),
                        result=seen.code,
                    ),
                    seen=_code(seen),
                    allowed=tuple(
                        dict.fromkeys(f"{_result(o.result)} ({o.row})" for o in outcomes)
                    ),
                    release=str(self.world.release),
                ),
                story=self.story(),
                where=where,
            )
        # An upcall that happens to be deliverable explains any quick poll: the last resort.
        taken = min(fitting, key=lambda outcome: outcome.row == _UPCALL)
        domid = _domid(operation)
        fifo = self.domain(domid).fifo
        self.exercised += [Exercised(domid, fifo, row) for row in taken.rows]
        self._compare_releases(operation, seen, taken)
        self.world = taken.world
        return taken

    def _compare_releases(self, operation: Operation, seen: Observed, taken: Outcome) -> None:
        """Note which other releases' models would not have allowed this."""
        for release in self.others:
            outcomes = predict(replace(self.world, release=release), operation)
            as_here = (
                replace(o, world=replace(o.world, release=self.world.release)) for o in outcomes
            )
            if not any(seen.fits(o.result) and o.world == taken.world for o in as_here):
                self.differences.add((release, taken.row))

    def unlisted(self) -> list[str]:
        """Return differences between releases that the model's list does not have."""
        own = self.world.release
        return [
            f"{row}: {own} does what the model of {other} does not allow"
            for other, row in sorted(self.differences)
            if row not in differing_rows(own, other)
        ]

    def story(self) -> str:
        """Return the latest operations, one a line, in order."""
        return "\n".join(self._told[-_TOLD:])

    def describe(self, operation: Operation) -> str:
        """Return ``operation`` as a person would write it."""
        name = self.names.get(_domid(operation), f"domain {_domid(operation)}")
        return f"{name}: {_text(operation)}"


def _text(operation: Operation) -> str:
    text = repr(operation)
    for noise in (f"caller={_domid(operation)}, ", ", fault=<Fault.NONE: 'none'>"):
        text = text.replace(noise, "")
    return text


def _arguments(operation: Operation) -> dict[str, int | str]:
    """Return what ``operation`` is asked with, without what is as ever."""
    found = {field.name: getattr(operation, field.name) for field in fields(operation)}
    return {
        name: value if isinstance(value, int) else str(value)
        for name, value in found.items()
        if name != "caller" and value is not Fault.NONE
    }


def _domid(operation: Operation) -> int:
    return int(getattr(operation, "caller", getattr(operation, "dom", 0)))


def _errno(code: int) -> str:
    return f"-{errno.errorcode.get(-code, -code)}" if code < 0 else str(code)


def _code(seen: Observed) -> str:
    more = f" {seen.status}" if seen.status is not None else ""
    if seen.blocked is not None and seen.code == 0:
        more += " after a sleep" if seen.blocked else " at once"
        more += f" ({seen.median_s * 1e6:.0f} us)" if seen.median_s else ""
    return _errno(seen.code) + more


def _result(result: Result) -> str:
    more = f" {result.status}" if result.status is not None else ""
    return _errno(result.code) + more + (" after a sleep" if result.blocked else "")


def rows(exercised: Sequence[Exercised], domid: int, fifo: bool) -> frozenset[str]:
    """Return the rows among ``exercised`` of that domain under that ABI."""
    return frozenset(e.row for e in exercised if (e.domid, e.fifo) == (domid, fifo))
