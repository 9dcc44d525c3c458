"""From a stress failure's witness to scenarios that may show the same in a moment.

A witness tells operations with their intervals.  Two that overlapped, at least one of them a
writer, are a meeting; the scenarios in which the same two calls meet are worth walking.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.model.lock.flavours import Site

# A line of harness.history.witness: "[   0.000 ..   12.5] us  dom0  cpu0  send(port 5) = 0".
_LINE = re.compile(
    r"\[\s*(?P<begin>[\d.]+) \.\.\s+(?:(?P<end>[\d.]+)|never returned)\] us\s+"
    r"(?P<domain>\S+)\s+cpu(?P<cpu>\d+)\s+(?P<verb>\w+)\((?P<arguments>[^)]*)\)"
)
_SAME = {"notify": "send", "unbind": "close", "bind_unbound": "alloc_unbound", "enable": "unmask"}


@dataclass(frozen=True)
class Meeting:
    """Two operations that overlapped, and the scenarios with the same two calls."""

    one: str
    other: str
    scenarios: tuple[str, ...]


@dataclass(frozen=True)
class _Told:
    verb: str
    text: str
    begin: float
    end: float


def meetings(story: str) -> tuple[Meeting, ...]:
    """Return the meetings that ``story`` tells of and some scenario has, the first one first."""
    found: dict[tuple[str, str], Meeting] = {}
    for one, other in combinations(_told(story), 2):
        if max(one.begin, other.begin) < min(one.end, other.end):
            names = tuple(each.name for each in SCENARIOS.values() if _meet(each, one, other))
            if names:
                found.setdefault((one.verb, other.verb), Meeting(one.text, other.text, names))
    return tuple(found.values())


def _told(story: str) -> Iterator[_Told]:
    for line in story.splitlines():
        seen = _LINE.search(line)
        if seen is None:
            continue
        end = float(seen["end"]) if seen["end"] else float("inf")
        text = f"{seen['domain']} cpu{seen['cpu']} {seen['verb']}({seen['arguments']})"
        yield _Told(_SAME.get(seen["verb"], seen["verb"]), text, float(seen["begin"]), end)


def _meet(scenario: Scenario, one: _Told, other: _Told) -> bool:
    verbs = sorted(lane.call.verb for lane in scenario.lanes)
    writes = any(lane.site is Site.WRITER for lane in scenario.lanes)
    return writes and verbs == sorted((one.verb, other.verb))
