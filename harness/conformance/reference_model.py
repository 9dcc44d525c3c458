# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference model follows a real Xen, operation by operation, and judges its answers.

    model = ReferenceModel(world)
    model.judge(Close(caller=1, port=5), Observed(code=0))

After each operation ``model.world`` is the state that Xen must be in.  ``judge`` raises
Disagreement when Xen has answered what the model of its release does not allow.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace

from harness.conformance.hypercalls import Observed
from harness.evidence import Operation as Call
from harness.evidence import WrongAnswer
from harness.model.evtchn import qemu
from harness.model.evtchn.changed_rules import TABLE
from harness.model.evtchn.domain import Domain, World
from harness.model.evtchn.operations import Fault, Operation, Result
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.evtchn.rules import AskedRules, Implementation, Rules, differing_rows
from harness.verdict import HarnessError, HypervisorError

_TOLD = 24  # how many operations before a disagreement its story has
_UPCALL = "poll: 0 at once, upcall deliverable"


class Disagreement(HypervisorError):
    """A real Xen has answered what the model of its release does not allow.

    ``story`` has that operation and those before it, one per line.
    """


@dataclass(frozen=True)
class Exercised:
    """A row of the specification that a real Xen's answer was an example of."""

    domid: int  # of the caller; of what Xen did by itself, of the domain
    fifo: bool  # whether that domain used FIFO then
    row: str


@dataclass
class ReferenceModel:
    """The state that the model believes in, and what it has seen of the real Xen."""

    world: World
    names: dict[int, str] = field(default_factory=dict)  # of domains, for messages
    exercised: list[Exercised] = field(default_factory=list)
    others: tuple[Rules, ...] = ()  # of other releases, to compare the running one with
    differences: set[tuple[Rules, str]] = field(default_factory=set)  # of another release, row
    operations: int = 0  # how many were judged
    _told: list[str] = field(default_factory=list)
    _looked_at: Operation | None = None  # see ``effect_of``

    def domain(self, domid: int) -> Domain:
        """Return the state of a domain that the model believes in."""
        found = self.world.domain(domid)
        if found is None:
            raise HarnessError(f"domain {domid} is not in the model's world")
        return found

    def expected(self, operation: Operation) -> tuple[AllowedOutcome, ...]:
        """Return every outcome of ``operation`` that the model allows now."""
        return predict(self.world, operation)

    @contextmanager
    def effect_of(self, operation: Operation) -> Iterator[None]:
        """The operations that are judged in the block only look at what ``operation`` has done.

        A Disagreement about one of them names ``operation``, too.
        """
        before, self._looked_at = self._looked_at, operation
        try:
            yield
        finally:
            self._looked_at = before

    def judge(
        self,
        operation: Operation,
        seen: Observed,
        outcomes: tuple[AllowedOutcome, ...] | None = None,
    ) -> AllowedOutcome:
        """Judge what was ``seen`` of ``operation``; return the allowed outcome that it fits.

        ``outcomes``: what ``expected`` has said in this world, if it was asked already.  Raises
        Disagreement if it fits none.  The outcome's world becomes ``world``.
        """
        self.operations += 1
        outcomes = outcomes or self.expected(operation)
        self._told.append(f"{self.describe(operation)} -> {_code(seen)}")
        fitting = [outcome for outcome in outcomes if seen.fits(outcome.result)]
        if not fitting:
            where = self.names.get(_domid(operation), "xen")
            raise Disagreement(
                WrongAnswer(
                    operation=self._call(operation, seen.code),
                    seen=_code(seen),
                    allowed=tuple(dict.fromkeys(f"{told(o.result)} ({o.row})" for o in outcomes)),
                    release=str(self.world.rules),
                    after=self._call(self._looked_at) if self._looked_at else None,
                ),
                story="\n".join([self.story(), *self._explaining(operation, seen)]),
                where=where,
            )
        # "An upcall was deliverable" explains any quick poll: take it only if nothing else fits.
        taken = min(fitting, key=lambda outcome: outcome.row == _UPCALL)
        domid = _domid(operation)
        fifo = self.domain(domid).fifo
        self.exercised += [Exercised(domid, fifo, row) for row in taken.rows]
        self._compare_releases(operation, seen, taken)
        self.world = taken.world
        return taken

    def _call(self, operation: Operation, result: int | None = None) -> Call:
        """Return ``operation`` as evidence."""
        return Call(
            domain=self.names.get(_domid(operation), "xen"),
            verb=type(operation).__name__,
            arguments=_arguments(operation),
            result=result,
        )

    def _explaining(self, operation: Operation, seen: Observed) -> Iterator[str]:
        """Yield a line for each changed rule that is as it is not believed to be, if that alone
        would explain what was ``seen``."""
        rules = self.world.rules
        if rules.implementation is Implementation.QEMU:
            yield from self._mended(operation, seen)
            return
        for each in (each for each in TABLE if each.rows):
            other = replace(rules, held=rules.held ^ {each.rule})
            outcomes = predict(replace(self.world, rules=other), operation)
            if any(seen.fits(outcome.result) for outcome in outcomes):
                holds = rules.holds(each.rule)
                yield (
                    f"Xen answers as if rule {each.rule} {'did not hold' if holds else 'held'}; "
                    f"for this tree it was found that it {'holds' if holds else 'does not hold'} "
                    f"({', '.join(commit.sha for commit in each.commits)})"
                )

    def _mended(self, operation: Operation, seen: Observed) -> Iterator[str]:
        """Yield a line if QEMU does what Xen does, where it was recorded that it does not."""
        fault = getattr(operation, "fault", Fault.NONE) is Fault.IN
        found = qemu.divergence(self.world, operation, fault=fault)
        outcomes = predict(qemu.as_xen(self.world), operation)
        if found is not None and any(seen.fits(outcome.result) for outcome in outcomes):
            yield f"Xen answers the same: {found.name} of harness/model/evtchn/qemu.py is no more"

    def _compare_releases(
        self, operation: Operation, seen: Observed, taken: AllowedOutcome
    ) -> None:
        """Note the other releases whose model does not allow what was seen."""
        for rules in self._others_that_differ(operation):
            outcomes = predict(replace(self.world, rules=rules), operation)
            as_here = (replace(o, world=replace(o.world, rules=self.world.rules)) for o in outcomes)
            if not any(seen.fits(o.result) and o.world == taken.world for o in as_here):
                self.differences.add((rules, taken.row))

    def _others_that_differ(self, operation: Operation) -> list[Rules]:
        """Return those of ``others`` that differ in a rule which ``operation`` depends on now."""
        if not self.others:
            return []
        own = self.world.rules
        if own.implementation is not Implementation.XEN:
            return list(self.others)
        asked = AskedRules(own.release, own.held)
        predict(replace(self.world, rules=asked), operation)
        return [o for o in self.others if any(o.holds(r) != own.holds(r) for r in asked.asked)]

    def unlisted(self) -> list[str]:
        """Return the differences between releases that the model does not list."""
        own = self.world.rules
        return [
            f"{row}: {own} does what the model of {other} does not allow"
            for other, row in self.sorted_differences()
            if row not in differing_rows(own, other) and not row.startswith(qemu.ROW)
        ]

    def sorted_differences(self) -> list[tuple[Rules, str]]:
        """Return ``differences`` by release, then by row."""
        return sorted(self.differences, key=lambda each: (each[0].release, each[1]))

    def story(self) -> str:
        """Return the latest operations in their order, one per line."""
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
    return _errno(seen.code) + more


def told(result: Result) -> str:
    """Return ``result`` as a person would write it."""
    more = f" {result.status}" if result.status is not None else ""
    return _errno(result.code) + more + (" after a sleep" if result.blocked else "")


def rows(exercised: Sequence[Exercised], domid: int, fifo: bool) -> frozenset[str]:
    """Return the rows among ``exercised`` that this domain has met with this ABI."""
    return frozenset(e.row for e in exercised if (e.domid, e.fifo) == (domid, fifo))
