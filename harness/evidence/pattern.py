# SPDX-License-Identifier: GPL-2.0-or-later
"""What evidence is expected, as a few words of YAML: ``shows`` of a corpus entry.

    shows: hang                                     a hang, whatever it is
    shows: {hang: evtchn_write_lock}                a CPU spins in that function
    shows: {hang: {function: evtchn_write_lock, port: any, writers: 1, readers: 1}}
    shows: {crash: [assertion, bug], hang: any}     one of several

A value alone stands for the kind's first field (MAIN); ``any`` is any value that is known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.evidence.kinds import (
    Assertion,
    BringUp,
    Change,
    Crash,
    Departure,
    Difference,
    Disallowed,
    Evidence,
    Hang,
    InFlight,
    Leak,
    Operation,
    Spin,
    Stand,
    UnforeseenEnd,
    WrongAnswer,
    WrongEvents,
    WrongState,
)

ANY = "any"
Value = str | int

# By kind: the field that a value alone stands for.
MAIN: Mapping[str, str] = {
    Hang.kind: "function",
    Crash.kind: "what",
    Disallowed.kind: "property",
    WrongAnswer.kind: "verb",
    WrongState.kind: "name",
    WrongEvents.kind: "domain",
    Departure.kind: "function",
    UnforeseenEnd.kind: "scenario",
    Leak.kind: "what",
    BringUp.kind: "stage",
    Assertion.kind: "expression",
    InFlight.kind: "verb",
}
# By kind: the classes whose fields can be asked for.
_PARTS: Mapping[str, tuple[type[Any], ...]] = {
    Hang.kind: (Hang, Spin),
    Crash.kind: (Crash,),
    Disallowed.kind: (Disallowed, Operation),
    WrongAnswer.kind: (WrongAnswer, Operation),
    WrongState.kind: (WrongState, Difference),
    WrongEvents.kind: (WrongEvents,),
    Departure.kind: (Stand, Difference),
    UnforeseenEnd.kind: (UnforeseenEnd,),
    Leak.kind: (Change,),
    BringUp.kind: (BringUp,),
    Assertion.kind: (Assertion,),
    InFlight.kind: (InFlight,),
}
_COMPARED = ("str", "int", "bool", "int | None", "LockFault | None")  # types of such fields
FIELDS: Mapping[str, frozenset[str]] = {
    kind: frozenset(
        field.name for part in parts for field in fields(part) if field.type in _COMPARED
    )
    for kind, parts in _PARTS.items()
}


@dataclass(frozen=True)
class Pattern:
    """One kind of evidence, and what some of its fields must be."""

    kind: str
    fields: Mapping[str, tuple[Value, ...]]  # one of these values; (): any

    def matches(self, evidence: Evidence | None) -> bool:
        """Say whether ``evidence`` is of that kind and one part of it has all of the fields."""
        if evidence is None or evidence.kind != self.kind:
            return False
        return not self.fields or any(self._fits(part) for part in _parts(evidence))

    def _fits(self, part: Mapping[str, object]) -> bool:
        seen = ((part.get(name), values) for name, values in self.fields.items())
        return all(value in values if values else value not in (None, "") for value, values in seen)


def patterns(document: object) -> tuple[Pattern, ...]:
    """Return what ``document``, read from YAML, expects: evidence that one of them matches.

    ValueError, with the place inside ``document``, for anything else.
    """
    if isinstance(document, str):
        return (Pattern(_kind(document), {}),)
    if not isinstance(document, Mapping) or not document:
        raise ValueError(f"is a kind of evidence, or a mapping of them: {', '.join(sorted(MAIN))}")
    found: list[Pattern] = []
    for kind, wanted in document.items():
        each = wanted if _is_list_of_mappings(wanted) else [wanted]
        found += (_pattern(_kind(kind), one) for one in each)
    return tuple(found)


def _is_list_of_mappings(wanted: object) -> bool:
    return isinstance(wanted, list) and any(isinstance(one, Mapping) for one in wanted)


def _kind(name: object) -> str:
    if name not in MAIN:
        raise ValueError(f"{name}: no kind of evidence; there are {', '.join(sorted(MAIN))}")
    return str(name)


def _pattern(kind: str, wanted: object) -> Pattern:
    if wanted == ANY:
        return Pattern(kind, {})
    if not isinstance(wanted, Mapping):
        wanted = {MAIN[kind]: wanted}
    for name in wanted:
        if name not in FIELDS[kind]:
            known = ", ".join(sorted(FIELDS[kind]))
            raise ValueError(f"{kind}.{name}: no such field; there are {known}")
    return Pattern(kind, {name: _values(kind, name, value) for name, value in wanted.items()})


def _values(kind: str, name: str, wanted: object) -> tuple[Value, ...]:
    if wanted == ANY:
        return ()
    values = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
    if not values or not all(isinstance(value, str | int) for value in values):
        raise ValueError(f"{kind}.{name}: is a value, a list of values, or any")
    if name == MAIN[Assertion.kind] and kind == Assertion.kind:
        return tuple(_plain(str(value)) for value in values)
    return tuple(values)


def _plain(source: str) -> str:
    """Return an expression of Python as ast.unparse writes it, as in Assertion."""
    try:
        return ast.unparse(ast.parse(source, mode="eval"))
    except SyntaxError as error:
        raise ValueError(f"assertion.expression: {error.msg}: {source}") from None


def _parts(evidence: Evidence) -> Iterator[Mapping[str, object]]:
    """Yield what is asked about at once: one CPU of a hang, one variable of a departure..."""
    match evidence:
        case Hang():
            yield from (vars(evidence) | vars(spin) for spin in evidence.cpus)
        case Departure():
            yield from (vars(stand) for stand in (evidence.stand,) if stand is not None)
            yield from (vars(difference) for difference in evidence.differences)
        case Leak():
            yield from (vars(change) for change in evidence.changes)
        case WrongState():
            yield from (vars(evidence) | vars(one) for one in evidence.differences)
        case WrongAnswer():
            yield vars(evidence.operation) | vars(evidence)
        case Disallowed():
            yield (vars(evidence.culprit) if evidence.culprit else {}) | vars(evidence)
        case _:
            yield vars(evidence)
