# SPDX-License-Identifier: GPL-2.0-or-later
"""Before and after: what the comparison sees, and what it says."""

from __future__ import annotations

from collections import Counter

from harness.evidence import Leak
from harness.run.leak_check import compare, outcome, parse, settle
from harness.verdict import Verdict

TEXT = """\
== event channels
   1: VCPU 0: Virtual IRQ 0
   2: VCPU 0: IPI
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
    assert state["event channels"] == Counter(["   1: VCPU 0: Virtual IRQ 0", "   2: VCPU 0: IPI"])
    assert state["processes"]["/usr/sbin/sshd"] == 2
    assert state["temporary files"] == Counter()


def test_the_same_state_is_no_leak() -> None:
    assert compare(parse(TEXT), parse(TEXT)) == []
    assert outcome("h", []).verdict is Verdict.PASS


def test_one_more_port_and_one_more_process_are_named() -> None:
    after = parse(TEXT)
    after["event channels"]["   9: VCPU 0: Unbound"] += 1
    after["processes"]["/usr/sbin/sshd"] += 1
    leaks = compare(parse(TEXT), after)
    assert [leak.what for leak in leaks] == ["event channels", "processes"]
    assert (leaks[0].before, leaks[0].after) == ("", "   9: VCPU 0: Unbound")
    assert (leaks[1].before, leaks[1].after) == ("", "/usr/sbin/sshd")
    test = outcome("h", leaks)
    assert test.verdict is Verdict.ERROR
    assert test.message == "not as before the run: event channels, processes"
    assert "9: VCPU 0: Unbound" in test.story
    assert test.evidence == Leak(changes=tuple(leaks))


def test_a_boot_script_that_has_ended_is_no_leak() -> None:
    before = parse(TEXT)
    before["processes"]["/usr/bin/busybox"] += 1
    assert compare(before, parse(TEXT)) == []


def test_what_tidies_itself_up_in_time_is_no_leak() -> None:
    looks = [parse(TEXT + "/tmp/x\n"), parse(TEXT)]
    assert settle(parse(TEXT), lambda: looks.pop(0)) == []
    assert looks == []
