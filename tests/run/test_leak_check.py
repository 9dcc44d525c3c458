# SPDX-License-Identifier: GPL-2.0-or-later
"""Before and after: what the comparison sees, and what it says."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evidence import Leak
from harness.run.leak_check import compare, observe, outcome, parse, settle
from harness.verdict import LabError, Verdict

TEXT = """\
== event channels
1: VIRQ 0
2: IPI
== xenstore
/local
/local/domain
== processes
/usr/sbin/sshd
/usr/sbin/sshd
== temporary files
"""


def test_sections_become_counters() -> None:
    state = parse(TEXT)
    assert state["event channels"] == Counter(["1: VIRQ 0", "2: IPI"])
    assert state["processes"]["/usr/sbin/sshd"] == 2
    assert state["temporary files"] == Counter()


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (r"\d+: .*\n", "event channels: nothing"),
        (r"/usr.*\n", "processes: nothing"),
        (r"/local.*\n", "xenstore: nothing"),
    ],
)
def test_what_is_never_empty_and_is_has_not_been_looked_at(lost: str, said: str) -> None:
    """On arm64 no port was ever seen: Debian has no lsevtchn there."""
    answer = SimpleNamespace(stdout=re.sub(lost, "", TEXT), stderr="")
    dom0: Any = SimpleNamespace(run=lambda *_, **__: answer)
    toolstack: Any = SimpleNamespace(domains=lambda: [])
    with pytest.raises(LabError, match=f"cannot inspect dom0: {said}"):
        observe(dom0, toolstack)


def test_why_dom0_could_not_be_inspected_is_told() -> None:
    answer = SimpleNamespace(stdout="", stderr="sh: /run/harness/agent: not found\n")
    dom0: Any = SimpleNamespace(run=lambda *_, **__: answer)
    with pytest.raises(LabError, match="agent: not found"):
        observe(dom0, None)


def test_the_same_state_is_no_leak() -> None:
    assert compare(parse(TEXT), parse(TEXT)) == []
    assert outcome("h", []).verdict is Verdict.PASS


def test_one_more_port_and_one_more_process_are_named() -> None:
    after = parse(TEXT)
    after["event channels"]["9: unbound, for domain 3"] += 1
    after["processes"]["/usr/sbin/sshd"] += 1
    leaks = compare(parse(TEXT), after)
    assert [leak.what for leak in leaks] == ["event channels", "processes"]
    assert (leaks[0].before, leaks[0].after) == ("", "9: unbound, for domain 3")
    assert (leaks[1].before, leaks[1].after) == ("", "/usr/sbin/sshd")
    test = outcome("h", leaks)
    assert test.verdict is Verdict.ERROR
    assert test.message == "not as before the run: event channels, processes"
    assert "9: unbound, for domain 3" in test.story
    assert test.evidence == Leak(changes=tuple(leaks))


def test_a_boot_script_that_has_ended_is_no_leak() -> None:
    before = parse(TEXT)
    before["processes"]["/usr/bin/busybox"] += 1
    assert compare(before, parse(TEXT)) == []


def test_what_tidies_itself_up_in_time_is_no_leak() -> None:
    looks = [parse(TEXT + "/tmp/x\n"), parse(TEXT)]
    assert settle(parse(TEXT), lambda: looks.pop(0)) == []
    assert looks == []
