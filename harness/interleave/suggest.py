# SPDX-License-Identifier: GPL-2.0-or-later
"""From a failure under stress to scenarios that may show the same fault within seconds.

The witness of the failure has operations with the times of their begin and end.  For two that
overlapped, a scenario is suggested if it makes the same two calls and one of its threads is a
writer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from harness.evidence import Disallowed, Evidence, Operation, words
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.model.lock.flavours import Site

# Operations through Linux's /dev/xen/evtchn, and the hypercall that each makes.
_HYPERCALL = {
    "notify": "send",
    "unbind": "close",
    "bind_unbound": "alloc_unbound",
    "enable": "unmask",
}
_NEVER = float("inf")
MOST = 3000  # operations of a witness; each is compared with each other one


@dataclass(frozen=True)
class Overlap:
    """Two operations that overlapped, and the scenarios that make the same two calls."""

    one: str
    other: str
    scenarios: tuple[str, ...]


def overlaps(evidence: Evidence | None) -> tuple[Overlap, ...]:
    """Return the overlaps in the witness of ``evidence`` for which there is a scenario, in the
    order of the witness, of which the first MOST operations are looked at."""
    if not isinstance(evidence, Disallowed):
        return ()
    found: dict[tuple[str, str], Overlap] = {}
    told = evidence.operations[:MOST]
    by_verbs: dict[tuple[str, str], tuple[str, ...]] = {}  # the scenarios, each looked up once
    for one, other in combinations(told, 2):
        verbs = one.verb, other.verb
        if verbs not in by_verbs:
            by_verbs[verbs] = tuple(s.name for s in SCENARIOS.values() if _matches(s, one, other))
        if by_verbs[verbs] and _overlap(one, other):
            overlap = Overlap(words.operation(one), words.operation(other), by_verbs[verbs])
            found.setdefault((_verb(one), _verb(other)), overlap)
            by_verbs[verbs] = ()  # no other overlap of these two is told
    return tuple(found.values())


def _overlap(one: Operation, other: Operation) -> bool:
    begins = [each.begin for each in (one, other) if each.begin is not None]
    ends = [_NEVER if each.end is None else each.end for each in (one, other)]
    return len(begins) == len(ends) and max(begins) < min(ends)


def _verb(operation: Operation) -> str:
    """Return the hypercall that ``operation`` makes, directly or through the device."""
    return _HYPERCALL.get(operation.verb, operation.verb)


def _matches(scenario: Scenario, one: Operation, other: Operation) -> bool:
    verbs = sorted(thread.call.verb for thread in scenario.threads)
    has_writer = any(thread.site is Site.WRITER for thread in scenario.threads)
    return has_writer and verbs == sorted((_verb(one), _verb(other)))
