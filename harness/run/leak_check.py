"""What must be as it was before a run: dom0's ports, domains, xenstore, processes, files."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable

from harness.domains.dom0 import Dom0
from harness.domains.toolstack import Toolstack
from harness.evidence import Change, Leak, words
from harness.results import records
from harness.verdict import LabError, Verdict

_SETTLE_SECONDS = 8.0  # libxl and xenstored tidy up behind a destroyed domain's back
_SHOWN = 12

# One shell round trip: sections, each after a line "== NAME".
_LOOK = r"""
echo == event channels; /usr/lib/xen-*/bin/lsevtchn 0
echo == xenstore; xenstore-ls -f / | cut -d= -f1
echo == processes; for p in /proc/[0-9]*; do [ -e $p/exe ] && readlink $p/exe; done 2>/dev/null
echo == temporary files; find /tmp /run/harness /var/lib/xen -xdev ! -type d 2>/dev/null
"""


# Category -> the things that are there, with their number.
State = dict[str, Counter[str]]


def observe(dom0: Dom0, toolstack: Toolstack | None) -> State:
    """Return what dom0 holds now."""
    answer = dom0.run(_LOOK, timeout=30)
    if "== temporary files" not in answer.stdout:
        raise LabError(f"dom0 cannot be inspected: {answer.stderr.strip()}", where="dom0")
    domains = toolstack.domains() if toolstack is not None else []
    return parse(answer.stdout) | {"libvirt domains": Counter(domains)}


def parse(text: str) -> State:
    """Return the state that the output of the inspection ``text`` describes."""
    state: State = {}
    # In xenstore: libxl makes them for its first domain, the last for the first HVM guest.
    containers = {"/libxl", "/vm", "/local/domain/0/device-model"}
    for section in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition("\n")
        lines = (line.rstrip() for line in body.splitlines())
        state[name] = Counter(line for line in lines if line and line not in containers)
    return state


def compare(before: State, after: State) -> list[Change]:
    """Return the differences, one per category."""
    leaks = []
    for what in sorted(before.keys() | after.keys()):
        was, now = before.get(what, Counter()), after.get(what, Counter())
        if what == "processes":
            was = was & now  # the last of the boot scripts may have been there, and ended
        if was != now:
            leaks.append(Change(what=what, before=_shown(was - now), after=_shown(now - was)))
    return leaks


def settle(before: State, look: Callable[[], State]) -> list[Change]:
    """Compare ``before`` with what ``look`` returns, for a while if need be."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (leaks := compare(before, look())) and time.monotonic() < deadline:
        time.sleep(0.5)
    return leaks


def outcome(host: str, leaks: list[Change]) -> records.Test:
    """Return what ``leaks`` on ``host`` mean, as a test of its own.

    ERROR, not FAIL: what was left behind can be told from here, who left it cannot.
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
