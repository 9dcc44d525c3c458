# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts on measurements that were made up: nothing is booted."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from harness.compare.companions import missing_companions, read_table
from harness.compare.judge import Comparison, details, judge, outcomes
from harness.compare.measure import Measurement, TestOutcome
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version
from harness.verdict import Verdict

PASS, FAIL, MISS = Verdict.PASS, Verdict.FAIL, Verdict.MISS
OPS = ("send", "close", "poll")


def run(random: Random, speed: float = 1.0, noise: float = 0.02, **more: Any) -> Measurement:
    """A run whose machine has ``speed``, give or take ``noise``."""
    rate = speed * math.exp(random.gauss(0, noise))
    tests = more.pop("tests", (TestOutcome("boot", PASS), TestOutcome("load", PASS)))
    latency = {op: 30 / rate for op in OPS}
    tail = {op: 90 / rate for op in OPS}
    answers = more.pop("answers", {"send: ok": 5000, "poll: EINVAL": 40})
    return Measurement(tests, 2000 * rate, latency, tail, answers, seconds=90)


def pairs(
    count: int, speed: float = 1.0, noise: float = 0.02, seed: int = 1, **more: Any
) -> list[tuple[Measurement, Measurement]]:
    """Rounds in which both share a machine that is up to twice as slow at times."""
    random = Random(seed)
    made = []
    for _ in range(count):
        machine = random.uniform(0.5, 1)
        made.append((run(random, machine, noise), run(random, machine * speed, noise, **more)))
    return made


def judged(rounds: list[tuple[Measurement, Measurement]], **more: Any) -> Comparison:
    return judge(rounds, margin=0.1, **more)


def test_the_same_is_equivalent() -> None:
    seen = judged(pairs(5))
    assert (seen.verdict, seen.differences) == ("equivalent", ())
    assert {ratio.name for ratio in seen.ratios} == {"throughput", "latency"}
    assert all(ratio.ratio.low < 1 < ratio.ratio.high for ratio in seen.ratios)
    assert "5 rounds" in seen.summary and "10%" in seen.summary


def test_a_slower_candidate_is_worse_and_the_summary_says_by_how_much() -> None:
    seen = judged(pairs(5, speed=0.7))
    assert seen.verdict == "worse"
    assert {one.what for one in seen.differences} == {"throughput", "latency"}
    assert "0.7" in seen.summary
    faster = judged(pairs(5, speed=1.5))
    assert faster.verdict == "differs"
    assert not any(one.worse for one in faster.differences)


def test_noise_leaves_it_undecided_and_the_summary_says_how_much_longer() -> None:
    seen = judged(pairs(4, noise=0.15))
    assert seen.verdict == "undecided"
    assert seen.rounds_needed is not None and seen.rounds_needed > 4
    assert seen.seconds_needed == (seen.rounds_needed - 4) * 180
    assert f"about {seen.seconds_needed / 60:.0f} min more" in seen.summary
    enough = judged(pairs(seen.rounds_needed * 2, noise=0.15, seed=9))
    assert enough.verdict == "equivalent"
    one = judged(pairs(1))
    assert one.verdict == "undecided" and one.rounds_needed is None
    assert "more rounds are needed" in one.summary
    close = judged(pairs(4, speed=1 / 1.1, noise=0.05, seed=48))
    assert close.rounds_needed is None and "too close to a difference of 10%" in close.summary


def test_equal_variants_are_rarely_said_to_differ() -> None:
    verdicts = [judged(pairs(5, noise=0.03, seed=seed)).verdict for seed in range(200)]
    assert verdicts.count("worse") + verdicts.count("differs") <= 4
    assert verdicts.count("equivalent") >= 100


def failing(name: str, message: str) -> dict[str, Any]:
    return {"tests": (TestOutcome("boot", PASS), TestOutcome(name, FAIL, message))}


def test_one_failure_is_worse_and_says_why() -> None:
    hang = "Xen hangs: CPU1 spins in evtchn_write_lock on port 7"
    seen = judged(pairs(1, **failing("load", hang)))
    assert seen.verdict == "worse"
    assert seen.summary == f"worse: test load: fails 1 of 1, was fails 0 of 1: {hang}"
    turned = judged([(candidate, base) for base, candidate in pairs(1, **failing("load", hang))])
    assert turned.verdict == "differs"
    assert turned.differences[0].explained == hang


def test_a_failure_that_both_have_is_no_difference() -> None:
    random = Random(1)
    bad = failing("load", "lost (1 in all)")
    both = [(run(random, **bad), run(random, **bad)) for _ in range(5)]
    assert judged(both).verdict == "equivalent"
    often = [(run(random, **(bad if n < 2 else {})), run(random, **bad)) for n in range(30)]
    assert judged(often).verdict == "worse"  # 2 of 30 and 30 of 30


def test_a_lab_fault_is_no_failure() -> None:
    spoilt = run(Random(1), tests=(TestOutcome("boot", MISS, "QEMU is gone"),))
    assert spoilt.fault == "boot: QEMU is gone"
    after = (TestOutcome("load", FAIL, "hangs"), TestOutcome("duel", MISS, "Xen was lost before"))
    assert run(Random(1), tests=after).fault == ""
    assert run(Random(1), tests=()).fault == "no test ran"


def test_an_answer_that_only_one_gives() -> None:
    answers = {"send: ok": 5000, "poll: EINVAL": 40, "status: EACCES": 9}
    (found,) = judged(pairs(5, answers=answers)).differences
    assert (found.what, found.subject) == ("answers", "status: EACCES")
    assert (found.base, found.candidate, found.worse) == ("0 times", "45 times", False)
    assert found.explained == "the model allows both"
    rare = judged(pairs(2, answers={**answers, "status: EACCES": 1}))
    assert rare.differences == ()  # a chance of the schedule


def test_releases_differ_in_what_the_model_says_and_in_nothing_else() -> None:
    seen = judged(pairs(5), rules=(by_version(Release(4, 14)), by_version(Release(4, 17))))
    assert seen.verdict == "differs"
    assert {one.subject: (one.base, one.candidate) for one in seen.differences} == {
        "poll_rejects_unusable": ("no", "yes"),
        "status_hides_xen_bound": ("no", "yes"),
        "fifo_drop_sets_pending": ("yes", "no"),
    }
    assert all("EINVAL" in one.explained for one in seen.differences if "poll" in one.subject)
    assert (
        judged(pairs(5), rules=(by_version(Release(4, 17)), by_version(Release(4, 17)))).verdict
        == "equivalent"
    )
    arm = judged(pairs(5), rules=(by_version(Release(4, 17)), by_version(Release(4, 20))))
    assert ("ENOMEM", "EOPNOTSUPP") in {(one.base, one.candidate) for one in arm.differences}


def write(folder: Any, sched: str, fifo: str = "", channel: str = "") -> Any:
    for name, text in {
        "xen/include/xen/sched.h": sched,
        "xen/common/event_fifo.c": fifo,
        "xen/common/event_channel.c": channel,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


RWLOCK = "struct evtchn\n{\n    rwlock_t lock;\n"
FIFO = "            spin_lock(&old_q->lock);\n"
CALLBACK = "xen_event_channel_notification_t fn = xen_notification_fn(rchn);\n"


def test_a_missing_companion_fix_is_worse(tmp_path: Any) -> None:
    known = read_table()
    whole = missing_companions(write(tmp_path / "a", RWLOCK, FIFO, CALLBACK), known)
    assert whole == []
    lone = missing_companions(write(tmp_path / "b", RWLOCK, FIFO), known)
    assert [(one.fix.commit, one.companion.commit) for one in lone] == [
        ("5f2df45ead7c", "1376ef90d31c")
    ]
    seen = judged(pairs(5), missing=(whole, lone))
    assert seen.verdict == "worse"
    assert "5f2df45ead7c without 1376ef90d31c, was whole: a consumer's callback" in seen.summary
    assert judged(pairs(5), missing=(lone, lone)).verdict == "equivalent"
    assert judged(pairs(5), missing=(lone, whole)).verdict == "differs"
    spin = write(tmp_path / "c", "", "", "    spin_lock_irqsave(&lchn->lock, flags);\n")
    assert [one.companion.commit for one in missing_companions(spin, known)] == ["5f2df45ead7c"]


def test_outcomes_are_counted() -> None:
    random = Random(1)
    bad = (run(random), run(random, **failing("load", "lost"), answers={"send: ok": 7}))
    told = outcomes([(run(random), run(random)), bad])
    assert told["tests"]["load"] == [{"PASS": 2}, {"PASS": 1, "FAIL": 1}]
    assert told["answers"] == {"poll: EINVAL": [80, 40], "send: ok": [10000, 5007]}


def test_details_decide_nothing() -> None:
    names = {ratio.name for ratio in details(pairs(3), 0.1)}
    assert names == {"tail latency", *(f"latency of {op}" for op in OPS)}


@pytest.mark.parametrize("rounds", [[], [(Measurement(), Measurement())]])
def test_nothing_measured_is_undecided(rounds: list[tuple[Measurement, Measurement]]) -> None:
    assert judged(rounds).verdict == "undecided"
    assert judged(rounds).summary == "undecided: nothing was measured"
