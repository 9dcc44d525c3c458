# SPDX-License-Identifier: GPL-2.0-or-later
"""The search over simulated histories: right, quick, and honest about what it cannot know."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect import loop
from harness.bisect.commits import Commits
from harness.bisect.confirm import REVERT, Confirmation, Finding
from harness.bisect.observations import BOOT, Event, Observations, Try
from harness.bisect.search import Question, Stop
from harness.bisect.signature import Signature
from harness.bisect.simulate import OTHER, TARGET, SimulatedHistory, bisect, halve, line


def world(
    count: int, culprit: int, rate: float = 1.0, seed: int = 1, **more: Any
) -> SimulatedHistory:
    return SimulatedHistory(line(count), f"c{culprit}", rate, Random(seed), **more)


def finding(found: Finding | Stop) -> Finding:
    assert isinstance(found, Finding), found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 5, 32, 100, 128])
def test_a_deterministic_failure_takes_as_many_steps_as_halving(count: int) -> None:
    for culprit in range(1, count + 1):
        result = bisect(world(count, culprit))
        found = finding(result.found)
        assert found.answer.culprit == f"c{culprit}"
        assert found.confirmation.confirmed
        assert result.steps <= math.ceil(math.log2(count)), culprit


def test_a_forced_failure_takes_one_try_each() -> None:
    for culprit in range(1, 65):
        result = bisect(world(64, culprit), forced=True)
        assert finding(result.found).answer.culprit == f"c{culprit}"
        assert finding(result.found).confirmation.confirmed
        assert result.steps <= 6
        assert result.tries == result.boots <= 6 + 2 + 2  # both ends, parent and reverted
    never = bisect(world(64, 20, rate=0.0), forced=True).found
    assert never == Stop("the failure did not show in 1 tries", "bad")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6, 0.9])
def test_a_flaky_failure_is_found_as_surely_as_is_claimed(rate: float) -> None:
    right = claimed = by_git = 0
    for seed in range(60):
        culprit = Random(seed).randint(1, 128)
        found = finding(bisect(world(128, culprit, rate, seed)).found)
        assert found.answer.confidence >= 0.95
        claimed += found.answer.culprit is not None
        right += found.answer.culprit == f"c{culprit}"
        by_git += halve(world(128, culprit, rate, seed), 1) == f"c{culprit}"
    assert claimed == 60
    assert right >= 56  # 95 % of 60 is 57; the bench has the thousands
    assert right > by_git


def test_the_search_avoids_revisions_that_do_not_build() -> None:
    broken = frozenset(f"c{number}" for number in range(60, 70))
    result = bisect(world(128, 40, broken=broken))
    assert finding(result.found).answer.culprit == "c40"
    assert len(result.observations.skipped) <= 4  # strides: no walk through all ten
    assert set(result.observations.skipped) <= broken
    assert "does not build" in next(iter(result.observations.skipped.values()))


@pytest.mark.parametrize("kind", ["broken", "dead"])
def test_commits_that_cannot_be_told_apart_are_all_suspects(kind: str) -> None:
    masked = frozenset({"c40", "c41", "c42"})
    found = finding(bisect(world(64, 41, **dict[str, Any]({kind: masked}))).found)
    assert found.answer.culprit is None
    assert {name for name, _ in found.answer.suspects} == {"c40", "c41", "c42", "c43"}
    assert found.answer.confidence >= 0.95
    assert not found.confirmation.confirmed


def test_a_culprit_next_to_what_does_not_build_is_still_found() -> None:
    found = finding(bisect(world(64, 43, broken=frozenset({"c40", "c41"}))).found)
    assert found.answer.culprit == "c43"


def test_a_lab_fault_is_retried_and_never_counted() -> None:
    for seed in range(30):
        result = bisect(world(64, 20, seed=seed, faults=0.3))
        blamed = (
            result.observations.skipped
        )  # after three in a row, while another revision could be
        assert all(
            why == "cannot be tested, although others can: QEMU is gone" for why in blamed.values()
        )
        if isinstance(result.found, Stop):
            assert result.found.at == "lab" or blamed
        else:
            assert result.found.answer.culprit == "c20" or blamed
    assert all(one.outcome != "fail" or one.signature == TARGET
               for event in result.observations.tested for one in event.tries)  # fmt: skip


def test_a_lab_that_always_fails_stops_the_search() -> None:
    result = bisect(world(64, 20, faults=1.0))
    assert result.found == Stop("the lab failed 3 times: QEMU is gone", "lab")


def test_another_failure_does_not_count_and_is_kept() -> None:
    result = bisect(world(64, 20, seed=3, others=0.2))
    found = finding(result.found)
    assert found.answer.culprit == "c20"
    assert any(
        one.signature == OTHER for event in result.observations.tested for one in event.tries
    )
    assert result.observations.target("c64") == TARGET


def test_the_target_may_be_the_rarer_failure() -> None:
    odd = world(64, 20, seed=3, others=0.6)
    question = Question(odd.commits)
    found, _ = loop.run(question, Observations(TARGET), odd, odd, record=lambda event: None)
    assert finding(found).answer.culprit == "c20"


class Masked(SimulatedHistory):
    """A history in which some revisions always fail in another way before the test runs."""

    masked: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()  # the test that counts is skipped there

    def _try(self, revision: str) -> Try:
        if revision in self.masked:
            return Try("race", "fail", OTHER)
        return Try("others", "pass") if revision in self.silent else super()._try(revision)


def masked(culprit: int, masked: set[str], silent: set[str] = frozenset()) -> Masked:  # type: ignore[assignment]
    made = Masked(line(64), f"c{culprit}", 1.0, Random(1))
    made.masked, made.silent = frozenset(masked), frozenset(silent)
    return made


def test_the_search_avoids_a_revision_that_always_fails_in_another_way() -> None:
    result = bisect(masked(20, {"c32", "c33"}))
    assert finding(result.found).answer.culprit == "c20"
    found = finding(bisect(masked(32, {"c32"})).found)
    assert {name for name, _ in found.answer.suspects} == {"c32", "c33"}
    seen = finding(bisect(masked(20, {"revert:c20"})).found).confirmation
    assert seen.reverted is None and "another failure comes first" in seen.not_tested[0]
    parent = finding(bisect(masked(20, {"c19"})).found)
    assert {name for name, _ in parent.answer.suspects} == {"c19", "c20"}


@pytest.mark.parametrize(("end", "at"), [("c64", "bad"), ("c0", "good")])
def test_an_end_that_always_fails_in_another_way_is_reported(end: str, at: str) -> None:
    lab = masked(20, {end})
    question = Question(lab.commits)
    found, _ = loop.run(question, Observations(TARGET), lab, lab, record=lambda event: None)
    assert isinstance(found, Stop) and found.at == at
    assert "another failure comes first: race: crash" in found.why


def test_the_search_avoids_a_revision_that_skips_the_test() -> None:
    result = bisect(masked(20, set(), {"c32"}))
    assert finding(result.found).answer.culprit == "c20"
    assert result.observations.skipped["c32"].startswith("cannot be tested, although others can")


def test_ends_are_checked_first() -> None:
    assert bisect(world(64, 20, rate=0.0)).found == Stop(
        "the failure did not show in 80 tries", "bad"
    )
    always = SimulatedHistory(line(64), "before", 1.0, Random(1))
    assert bisect(always).found == Stop("this revision shows the failure already", "good")
    unbuildable = bisect(world(64, 20, broken=frozenset({"c0"}))).found
    assert isinstance(unbuildable, Stop) and unbuildable.at == "good"
    assert "does not build: expected" in unbuildable.why


@pytest.mark.parametrize(
    ("more", "reverted", "confirmed"),
    [({}, True, True), ({"reverts": False}, None, True), ({"revert_fixes": False}, False, False)],
)
def test_the_culprit_is_reverted_to_confirm_it(
    more: dict[str, bool], reverted: bool, confirmed: bool
) -> None:
    seen = finding(bisect(world(32, 9, **more)).found).confirmation
    assert (seen.culprit, seen.parents) == (True, True)
    assert (seen.reverted, seen.confirmed) == (reverted, confirmed)
    assert bool(seen.not_tested) == (reverted is None)


def branches() -> Commits:
    """c0 - a1 - a2 - m - z, with b1..b4 beside a1, a2."""
    parents = {
        "a1": ("c0",), "a2": ("a1",),
        "b1": ("c0",), "b2": ("b1",), "b3": ("b2",), "b4": ("b3",),
        "m": ("a2", "b4"), "z": ("m",),
    }  # fmt: skip
    return Commits("c0", tuple(parents), parents)


@pytest.mark.parametrize("rate", [0.5, 1.0])
@pytest.mark.parametrize("culprit", branches().ids)
def test_a_culprit_on_a_branch(culprit: str, rate: float) -> None:
    found = finding(bisect(SimulatedHistory(branches(), culprit, rate, Random(7))).found)
    assert found.answer.culprit == culprit
    assert found.confirmation.confirmed


@st.composite
def histories(draw: st.DrawFn) -> Commits:
    """A history of up to 14 commits with merges."""
    count = draw(st.integers(1, 14))
    parents: dict[str, tuple[str, ...]] = {}
    for number in range(1, count + 1):
        older = [f"c{n}" for n in range(number)]
        chosen = draw(st.lists(st.sampled_from(older), min_size=1, max_size=2, unique=True))
        parents[f"c{number}"] = tuple(chosen)
    heads = set(parents) - {name for above in parents.values() for name in above}
    parents["top"] = tuple(sorted(heads))  # the bad end has them all
    return Commits("c0", tuple(parents), parents)


@settings(deadline=None, max_examples=60)
@given(commits=histories(), data=st.data())
def test_any_history_is_searched_to_an_end_and_never_wrongly(
    commits: Commits, data: st.DataObject
) -> None:
    culprit = data.draw(st.sampled_from(commits.ids))
    broken = data.draw(st.frozensets(st.sampled_from(commits.ids[:-1] or ("c0x",)), max_size=4))
    lab = SimulatedHistory(commits, culprit, 1.0, Random(1), broken=broken)
    found = finding(bisect(lab).found)
    suspects = {name for name, _ in found.answer.suspects}
    assert culprit in suspects
    assert lab.boots <= 4 + len(commits.ids)
    if not broken:
        assert suspects == {culprit} and found.confirmation.confirmed


def test_a_commit_that_builds_the_same_as_its_parent_is_no_suspect() -> None:
    plain = line(64)
    inert = frozenset(plain.ids) - {"c10", "c30", "c50", "c64"}
    some = SimulatedHistory(Commits("c0", plain.ids, plain.parents, inert), "c30", 1.0, Random(1))
    result = bisect(some)
    assert finding(result.found).answer.culprit == "c30"
    assert result.steps <= 2
    none = SimulatedHistory(
        Commits("c0", plain.ids, plain.parents, frozenset(plain.ids)), "c1", 1.0, Random(1)
    )
    found = bisect(none).found
    assert isinstance(found, Stop) and "no commit in between changes what is built" in found.why


def test_the_same_bytes_cannot_be_good_and_bad() -> None:
    same = {f"c{number}": "twin" for number in range(20, 60)}
    result = bisect(world(64, 10, same=same))
    assert finding(result.found).answer.culprit == "c10"
    assert result.steps <= math.ceil(math.log2(64))


@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_a_bisection_that_was_killed_is_resumed(rate: float) -> None:
    whole: list[Event] = []
    first = world(64, 33, rate, seed=5, broken=frozenset({"c32"}))
    question = Question(first.commits)
    loop.run(question, Observations(), first, first, record=whole.append)
    for cut in range(len(whole)):
        observations = Observations()
        for event in whole[:cut]:
            observations = observations.with_event(event)
        again = world(64, 33, rate, seed=cut, broken=frozenset({"c32"}))
        found, after = loop.run(question, observations, again, again, record=lambda event: None)
        answer = finding(found).answer
        assert answer.culprit == "c33" or {"c32", "c33"} & {name for name, _ in answer.suspects}
        assert after.events[:cut] == tuple(whole[:cut])
        if cut > len(whole) // 2:
            assert again.boots < first.boots


def mending(commits: Commits) -> Commits:
    return replace(commits, mends=True)


@pytest.mark.parametrize("count", [1, 2, 5, 32])
def test_the_commit_with_which_a_test_begins_to_pass_takes_as_many_steps(count: int) -> None:
    for culprit in range(1, count + 1):
        history = SimulatedHistory(mending(line(count)), f"c{culprit}", 1.0, Random(1))
        result = bisect(history)
        found = finding(result.found)
        assert found.answer.culprit == f"c{culprit}"
        assert found.confirmation == Confirmation(True, True, True)
        assert result.steps <= math.ceil(math.log2(count)), culprit


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_a_flaky_failure_that_a_commit_ends_is_found_as_surely(rate: float) -> None:
    right = 0
    for seed in range(40):
        culprit = Random(seed).randint(1, 64)
        history = SimulatedHistory(mending(line(64)), f"c{culprit}", rate, Random(seed))
        right += finding(bisect(history).found).answer.culprit == f"c{culprit}"
    assert right >= 37


@pytest.mark.parametrize("rate", [0.5, 1.0])
@pytest.mark.parametrize("culprit", branches().ids)
def test_a_commit_that_mends_on_a_branch(culprit: str, rate: float) -> None:
    history = SimulatedHistory(mending(branches()), culprit, rate, Random(7))
    found = finding(bisect(history).found)
    assert found.answer.culprit == culprit
    assert found.confirmation.confirmed


def test_the_ends_of_what_mends_are_checked_first() -> None:
    lucky = SimulatedHistory(mending(line(8)), "c4", 0.0, Random(1))
    assert bisect(lucky).found == Stop("the failure did not show in 80 tries", "bad")
    never = SimulatedHistory(mending(line(8)), "after", 1.0, Random(1))
    assert bisect(never).found == Stop("this revision shows the failure still", "good")


def test_a_revert_that_still_passes_is_a_doubt() -> None:
    history = SimulatedHistory(mending(line(8)), "c4", 1.0, Random(1), revert_fixes=False)
    seen = finding(bisect(history).found).confirmation
    assert (seen.culprit, seen.parents, seen.reverted, seen.confirmed) == (True, True, False, False)


class Dom0(SimulatedHistory):
    """A history in which dom0 does not come up with bad revisions.

    That is a fault of the lab, for all that is known, until it came up with another one.
    """

    came_up = False

    def _try(self, revision: str) -> Try:
        bad = not self.revert_fixes if revision.startswith(REVERT) else self.is_bad(revision)
        self.came_up |= not bad
        if not bad:
            return Try(BOOT, "pass")
        return Try(BOOT, "fail", NOT_UP) if self.came_up else Try(BOOT, "fault", message="MISS")


NOT_UP = Signature(BOOT, "bring-up", "xenstore", "FATAL: no")


def test_a_bring_up_that_fails_is_searched_like_any_failure() -> None:
    for culprit in range(1, 33):
        history = Dom0(line(32), f"c{culprit}", 1.0, Random(1))
        question = Question(history.commits, forced=True, boot=True)
        found, observations = loop.run(
            question,
            Observations(boot=True),
            history,
            history,
            record=lambda event: None,
        )
        assert finding(found).answer.culprit == f"c{culprit}"
        assert finding(found).confirmation.confirmed
        assert not observations.skipped
        assert [tested.stage for tested in observations.tested[:2]] == ["good", "bad"]
        assert history.boots <= 2 + 5 + 2


def test_a_good_end_that_does_not_come_up_is_told() -> None:
    history = Dom0(line(4), "before", 1.0, Random(1))
    question = Question(history.commits, forced=True, boot=True)
    found, _ = loop.run(
        question, Observations(boot=True), history, history, record=lambda event: None
    )
    assert found == Stop("the lab failed 3 times: MISS", "lab")
