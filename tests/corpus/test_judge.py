# SPDX-License-Identifier: GPL-2.0-or-later
"""What the runs of a corpus entry mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.arch import Arch
from harness.corpus.entry import Entry
from harness.corpus.judge import exit_code, judge
from harness.evidence import Evidence, Hang, Spin, codec

BAD = Entry.model_validate(
    {
        "name": "leak",
        "kind": "deterministic",
        "caught_by": "t.py::test_x",
        "shows": {"hang": {"port": "any", "writers": 1}},
    }
)
GOOD = Entry(name="counter", kind="good")


def said(
    verdict: str,
    message: str = "",
    seconds: float = 2.0,
    name: str = "x",
    evidence: Evidence | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": verdict,
        "message": message,
        "story": "",
        "seconds": seconds,
        "evidence": None if evidence is None else codec.to_json(evidence),
    }


BOOT = said("PASS", name="boot")
SPIN = Spin(cpu=0, function="evtchn_write_lock", where="", port=7, word=129, writers=1, readers=1)
HIT = said("FAIL", "CPU0 spins on port 7: one writer + 1 reader", evidence=Hang(cpus=(SPIN,)))


def test_a_hit_is_a_failure_that_shows_what_the_entry_says() -> None:
    cell = judge(BAD, "h", [BOOT, HIT, HIT, said("PASS")])
    assert (cell.outcome, cell.hits, cell.tries, cell.seconds) == ("caught", 2, 3, 2.0)
    assert "CPU0 spins" in cell.explanation


def test_another_failure_is_no_hit() -> None:
    no_port = Hang(cpus=(replace(SPIN, port=None),))
    assert judge(BAD, "h", [BOOT, said("FAIL", "x", evidence=no_port)]).outcome == "missed"
    cell = judge(BAD, "h", [BOOT, said("FAIL", "something else")])
    assert cell.outcome == "missed"
    assert cell.explanation == "failed in another way: something else"


def test_boot_and_teardown_are_no_tries() -> None:
    frame = [
        BOOT,
        said("PASS", name="nothing-leaked"),
        HIT | {"name": "teardown"},
    ]
    assert judge(BAD, "h", [*frame, said("MISS")]).outcome == "lab-fault"
    assert judge(BAD, "h", [*frame, HIT]).tries == 1
    leak = said("FAIL", "a port", name="nothing-leaked")
    assert judge(GOOD, "h", [BOOT, said("PASS"), leak]).outcome == "false-alarm"


def test_all_passing_is_a_miss() -> None:
    assert judge(BAD, "h", [BOOT, said("PASS")]).outcome == "missed"


@pytest.mark.parametrize(
    "tests", [[], [BOOT], [BOOT, said("MISS", "QEMU is gone")], [said("SKIP")]]
)
def test_a_lab_fault_says_nothing_about_the_tests(tests: list[dict[str, Any]]) -> None:
    assert judge(BAD, "h", tests).outcome == "lab-fault"
    assert judge(GOOD, "h", tests).outcome == "lab-fault"


def test_a_good_flavour_that_fails_is_a_false_alarm_even_beside_lab_faults() -> None:
    cell = judge(GOOD, "h", [BOOT, said("MISS"), said("FAIL", "why")])
    assert (cell.outcome, cell.explanation) == ("false-alarm", "x: why")
    assert judge(GOOD, "h", [BOOT, said("PASS")]).outcome == "pass"
    assert judge(GOOD, "h", [BOOT, said("PASS"), said("MISS")]).outcome == "lab-fault"


def test_how_long_to_run_for_95_per_cent() -> None:
    tests = [HIT] + [said("PASS")] * 3
    assert judge(BAD, "h", tests).seconds_for_95 == pytest.approx(2 * 10.4, abs=0.1)
    assert judge(BAD, "h", [HIT]).seconds_for_95 == 2.0
    assert judge(BAD, "h", [said("PASS")]).seconds_for_95 is None


def test_exit_codes() -> None:
    hit, missed = judge(BAD, "h", [HIT]), judge(BAD, "h", [said("PASS")])
    fault, alarm = judge(BAD, "h", []), judge(GOOD, "h", [said("FAIL")])
    assert [exit_code(c) for c in ([hit], [missed], [fault], [alarm], [fault, missed])] == [
        0,
        1,
        3,
        1,
        1,
    ]


def test_machine_code_is_a_hit_if_the_function_of_the_entry_is_refuted() -> None:
    entry = Entry(
        name="weak",
        kind="model-only",
        in_binary="evtchn_read_unlock",
        arches=(Arch.ARM64,),
        cannot_show="x86-64 keeps this order",
    )
    here = said("FAIL", "no barrier", name="binary-evtchn_read_unlock")
    assert judge(entry, "h", [here]).outcome == "caught"
    elsewhere = said("FAIL", "no barrier", name="binary-evtchn_write_lock")
    assert judge(entry, "h", [elsewhere]).outcome == "missed"
    good = said("PASS", "model binary: as modelled", name="binary-evtchn_read_unlock")
    assert judge(entry, "h", [good]).outcome == "missed"
    unknown = said("MISS", "model binary: not covered", name="binary-evtchn_read_unlock")
    assert judge(entry, "h", [unknown]).outcome == "lab-fault"
