"""Scenarios for what stress has met."""

from __future__ import annotations

from harness.interleave.suggest import meetings

STORY = """\
order: answers that no order of the operations explains
   [       0.000 ..       12.500] us  dom0      cpu0  bind_interdomain(dom0 port 5) = 6
>> [       3.000 ..        9.000] us  dom0      cpu1  unmask(port 5) = 0
   [      20.000 .. never returned] us  domu1     cpu0  close(port 6)
   [      30.000 ..       31.000] us  domu1     cpu1  send(port 6) on /dev/xen/evtchn = 0
   [      40.000 ..       41.000] us  dom0      cpu1  send(port 5) = 0
   because nothing explains it
"""


def test_operations_that_overlapped_become_scenarios() -> None:
    found = meetings(STORY)
    assert [meeting.scenarios for meeting in found] == [
        ("unmask-bind",),
        ("send-close", "send-close-peer"),
    ]
    assert found[0].one == "dom0 cpu0 bind_interdomain(dom0 port 5)"
    assert found[1].other == "domu1 cpu1 send(port 6)"


def test_operations_one_after_the_other_meet_nobody() -> None:
    assert meetings(STORY.splitlines()[1] + "\n" + STORY.splitlines()[5]) == ()
    assert meetings("") == ()
