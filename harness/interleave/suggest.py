"""From a stress failure's witness to scenarios that may show the same in a moment.

A witness has operations with their intervals.  Two that overlapped, at least one of them a
writer, are a meeting; the scenarios in which the same two calls meet are worth walking.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from harness.evidence import Disallowed, Evidence, Operation, words
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.model.lock.flavours import Site

_SAME = {"notify": "send", "unbind": "close", "bind_unbound": "alloc_unbound", "enable": "unmask"}
_NEVER = float("inf")


@dataclass(frozen=True)
class Meeting:
    """Two operations that overlapped, and the scenarios with the same two calls."""

    one: str
    other: str
    scenarios: tuple[str, ...]


def meetings(evidence: Evidence | None) -> tuple[Meeting, ...]:
    """Return the meetings in the witness of ``evidence`` that some scenario has, the first one
    first."""
    if not isinstance(evidence, Disallowed):
        return ()
    found: dict[tuple[str, str], Meeting] = {}
    for one, other in combinations(evidence.operations, 2):
        if _overlap(one, other):
            names = tuple(each.name for each in SCENARIOS.values() if _meet(each, one, other))
            if names:
                met = Meeting(words.operation(one), words.operation(other), names)
                found.setdefault((_verb(one), _verb(other)), met)
    return tuple(found.values())


def _overlap(one: Operation, other: Operation) -> bool:
    begins = [each.begin for each in (one, other) if each.begin is not None]
    ends = [_NEVER if each.end is None else each.end for each in (one, other)]
    return len(begins) == len(ends) and max(begins) < min(ends)


def _verb(operation: Operation) -> str:
    """Return the hypercall that ``operation`` is, through the device or not."""
    return _SAME.get(operation.verb, operation.verb)


def _meet(scenario: Scenario, one: Operation, other: Operation) -> bool:
    verbs = sorted(lane.call.verb for lane in scenario.lanes)
    writes = any(lane.site is Site.WRITER for lane in scenario.lanes)
    return writes and verbs == sorted((_verb(one), _verb(other)))
