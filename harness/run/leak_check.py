# SPDX-License-Identifier: GPL-2.0-or-later
"""The leak check: after a run, dom0's ports, domains, xenstore, processes, files are as before."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable

from harness.domains.dom0 import Dom0
from harness.domains.toolstack import Toolstack
from harness.evidence import Change, Leak, words
from harness.machine.patience import WALL, Clock, Deadline
from harness.results import records
from harness.run.agents import PAYLOAD
from harness.verdict import LabError, Verdict

_SETTLE_SECONDS = 8.0  # how long libxl and xenstored may clean up after a destroyed domain
_SHOWN = 12

# All in one command, to save round trips; each section of the output follows a line "== NAME".
# (Not Xen's lsevtchn: Debian has none for arm64.)
_LOOK = rf"""
echo == event channels; {PAYLOAD}/agent ports 0
echo == xenstore; [ -e {PAYLOAD}/dom0-alone ] || xenstore-ls -f / | cut -d= -f1
echo == processes; for p in /proc/[0-9]*; do [ -e $p/exe ] && readlink $p/exe; done 2>/dev/null
echo == temporary files; find /tmp {PAYLOAD} /var/lib/xen -xdev ! -type d 2>/dev/null
"""


# Category -> how many of each thing there are.
State = dict[str, Counter[str]]


def observe(dom0: Dom0, toolstack: Toolstack | None) -> State:
    """Return what exists in dom0 now."""
    answer = dom0.run(_LOOK, timeout=30)
    state = parse(answer.stdout)
    never_empty = {"event channels", "processes"} | ({"xenstore"} if toolstack else set())
    if empty := sorted(what for what in never_empty if not state.get(what)):
        why = answer.stderr.strip() or f"{', '.join(empty)}: nothing"
        raise LabError(f"cannot inspect dom0: {why}", where="dom0")
    domains = toolstack.domains() if toolstack is not None else []
    return state | {"libvirt domains": Counter(domains)}


def parse(text: str) -> State:
    """Return the state that ``text``, the output of the inspection, describes."""
    state: State = {}
    # In xenstore: libxl makes them for its first domain, the last for the first HVM guest.
    containers = {"/libxl", "/vm", "/local/domain/0/device-model"}
    for section in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition("\n")
        lines = (line.rstrip() for line in body.splitlines())
        state[name] = Counter(line for line in lines if line and line not in containers)
    return state


def compare(before: State, after: State) -> list[Change]:
    """Return the differences, at most one per category."""
    leaks = []
    for what in sorted(before.keys() | after.keys()):
        was, now = before.get(what, Counter()), after.get(what, Counter())
        if what == "processes":
            was = was & now  # a boot script may still have run before, and have ended since
        if was != now:
            leaks.append(Change(what=what, before=_shown(was - now), after=_shown(now - was)))
    return leaks


def settle(before: State, look: Callable[[], State], clock: Clock = WALL) -> list[Change]:
    """Compare ``before`` with what ``look`` returns; repeat for a while (of ``clock``) if they
    differ."""
    deadline = Deadline(clock, _SETTLE_SECONDS)
    while (leaks := compare(before, look())) and not deadline.over:
        time.sleep(0.5)
    return leaks


def outcome(host: str, leaks: list[Change]) -> records.Test:
    """Return the result of the leak check on ``host`` as a test of its own.

    A leak is ERROR, not FAIL: we know what was left behind, but not who left it.
    """
    if not leaks:
        return records.Test(host, "nothing-leaked", Verdict.PASS, 0.0)
    seen = Leak(changes=tuple(leaks))
    return records.Test(
        host,
        "nothing-leaked",
        Verdict.ERROR,
        0.0,
        words.message(seen),
        words.story(seen),
        evidence=seen,
    )


def _shown(things: Counter[str]) -> str:
    lines = sorted(things.elements())
    more = f" (+{len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more
