# SPDX-License-Identifier: GPL-2.0-or-later
"""A night from its first cell to its last, with runs that boot nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.config.nightly import Cell, Suite
from harness.nightly.loop import open_night
from harness.nightly.store import Store
from harness.verdict import ConfigError, LabError, Verdict
from tests.nightly.fake import FakeResult, FakeRunner, leave, night, plan

ROOT = Path(__file__).parents[2]
MISS = {"boot": Verdict.MISS}


def test_every_cell_is_run_once_and_kept(tmp_path: Path) -> None:
    runner = FakeRunner()
    with Store(tmp_path, write=True) as store:
        done = night(plan(xens=("counter", "rwlock")), store, runner)
        cells = store.cells(done.id)
        tests = store.tests_of(done.id)
    assert len(runner.asked) == len(set(runner.asked)) == 4
    assert {cell.state for cell in cells} == {"done"}
    assert done.verdict == "PASS" and done.ended is not None
    (test,) = tests[cells[0].id]
    assert (test.name, test.verdict, test.seconds) == ("load", Verdict.PASS, 1.5)
    assert cells[0].build == "aa" * 20 and cells[0].seed == 7 and cells[0].operations == 4000
    assert (tmp_path / cells[0].run / "results.jsonl").is_file()


def test_a_lab_fault_is_tried_again_after_the_others(tmp_path: Path) -> None:
    faults = iter([MISS])
    runner = FakeRunner(lambda cell: FakeResult(next(faults, {"load": Verdict.PASS})))
    with Store(tmp_path, write=True) as store:
        done = night(plan(), store, runner)
        cells = store.cells(done.id)
        attempts = store.attempts(done.id)
    assert [key[0] for key in runner.asked] == ["h1", "h2", "h1"]
    assert [cell.verdict for cell in cells] == ["PASS", "PASS"]
    assert [attempt.verdict for attempt in attempts] == ["MISS", "PASS", "PASS"]
    assert len({attempt.run for attempt in attempts}) == 3  # each keeps its own directory


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.PASS])
def test_only_a_lab_fault_is_tried_again(verdict: Verdict, tmp_path: Path) -> None:
    runner = FakeRunner(lambda cell: FakeResult({"load": verdict}))
    with Store(tmp_path, write=True) as store:
        assert night(plan(hosts=("h1",)), store, runner).verdict == verdict
    assert len(runner.asked) == 1


def test_retries_end(tmp_path: Path) -> None:
    runner = FakeRunner(lambda cell: FakeResult(MISS))
    with Store(tmp_path, write=True) as store:
        done = night(plan(hosts=("h1",), retries=1), store, runner)
        (cell,) = store.cells(done.id)
    assert len(runner.asked) == 2
    assert (cell.state, cell.verdict, done.verdict) == ("done", "MISS", "MISS")


def test_a_host_that_fails_again_and_again_is_left_alone(tmp_path: Path) -> None:
    suites = [Suite(name=f"s{number}") for number in range(6)]
    runner = FakeRunner(lambda cell: FakeResult(MISS) if cell.host.name == "h1" else FakeResult())
    with Store(tmp_path, write=True) as store:
        done = night(plan(suites=suites, retries=0), store, runner)
        cells = store.cells(done.id)
    assert sum(key[0] == "h1" for key in runner.asked) == 3
    assert sum(key[0] == "h2" for key in runner.asked) == 6
    left = [cell for cell in cells if cell.state == "left"]
    assert {cell.host for cell in left} == {"h1"} and len(left) == 3
    assert left[0].message.startswith("h1 failed 3 times in a row: ")


def test_a_run_that_did_not_start_is_reported_with_its_reason(tmp_path: Path) -> None:
    problems = {"h1": ConfigError("no commit x"), "h2": LabError("acquire: the place is taken")}
    runner = FakeRunner(lambda cell: problems[cell.host.name])
    with Store(tmp_path, write=True) as store:
        done = night(plan(retries=0), store, runner)
        cells = store.cells(done.id)
    assert [(cell.verdict, cell.message) for cell in cells] == [
        ("ERROR", "no commit x"),
        ("MISS", "acquire: the place is taken"),
    ]


def test_hosts_run_side_by_side_but_none_runs_two_at_a_time(tmp_path: Path) -> None:
    def slow(cell: Cell) -> FakeResult:
        time.sleep(0.05)
        return FakeResult()

    suites = [Suite(name=f"s{number}") for number in range(4)]
    runner = FakeRunner(slow)
    with Store(tmp_path, write=True) as store:
        night(plan(hosts=("a", "b", "c"), suites=suites), store, runner, parallel=8)
    assert len(runner.asked) == 12
    assert runner.shared == []
    assert 2 <= runner.together <= 3


def test_what_would_not_end_in_time_is_left_and_comes_first_the_next_night(tmp_path: Path) -> None:
    suites = [Suite(name="short", duration=0.5), Suite(name="long", duration=7200)]
    asked = plan(hosts=("h1",), suites=suites, budget_hours=1)
    first = FakeRunner()
    with Store(tmp_path, write=True) as store:
        done = night(asked, store, first)
        by_suite = {cell.suite: cell for cell in store.cells(done.id)}
        assert first.asked == [("h1", "counter", "short")]
        assert (by_suite["long"].state, by_suite["long"].message) == ("left", "no time left")
        assert done.verdict == "PASS" and done.message == "no time left"
        longer = plan(hosts=("h1",), suites=suites, budget_hours=5)
        second = FakeRunner()
        night(longer, store, second)
    assert [key[2] for key in second.asked] == ["long", "short"]


def _stopped_after(count: int, tmp_path: Path) -> FakeRunner:
    """Run a night of four cells that Ctrl-C stops in the middle of cell ``count``."""
    runner = FakeRunner()

    def script(cell: Cell) -> FakeResult:
        if len(runner.asked) == count:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # the run takes a moment to end
            raise LabError("stopped")
        return FakeResult()

    runner.script = script
    with Store(tmp_path, write=True) as store, pytest.raises(KeyboardInterrupt):
        night(plan(xens=("counter", "rwlock")), store, runner)
    return runner


def test_a_stopped_night_is_resumed(tmp_path: Path) -> None:
    stopped = _stopped_after(3, tmp_path)
    rest = FakeRunner()
    with Store(tmp_path, write=True) as store:
        (unfinished,) = store.unfinished()
        states = [cell.state for cell in store.cells(unfinished.id)]
        assert sorted(states) == ["done", "done", "waiting", "waiting"]
        done = night(plan(xens=("counter", "rwlock")), store, rest)
        assert done.id == unfinished.id
        cells = store.cells(done.id)
    assert {cell.verdict for cell in cells} == {"PASS"}
    assert stopped.asked[2] in rest.asked and len(rest.asked) == 2
    assert not set(stopped.asked[:2]) & set(rest.asked)


def test_another_plan_begins_another_night(tmp_path: Path) -> None:
    _stopped_after(2, tmp_path)
    with Store(tmp_path, write=True) as store:
        (old,) = store.unfinished()
        done = night(plan(hosts=("h3",)), store, FakeRunner())
        assert done.id != old.id and store.unfinished() == []
        closed = store.night(old.id)
        assert closed.verdict == "PASS" and "the plan has changed" in closed.message
        assert {cell.state for cell in store.cells(old.id)} == {"done", "left"}


def test_a_night_whose_time_is_over_is_closed(tmp_path: Path) -> None:
    asked = plan()
    with Store(tmp_path, write=True) as store:
        begun = open_night(asked, store, lambda text: None, resume=False)
        assert begun is not None
        store.db.execute("UPDATE night SET deadline = started - 1")
        assert open_night(asked, store, lambda text: None, resume=True) is None
        assert store.night(begun.id).ended is not None


def test_resume_alone_starts_no_night(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        assert open_night(plan(), store, lambda text: None, resume=True) is None
        assert store.nights(5) == []


def test_a_run_whose_end_was_not_recorded_is_not_run_again(tmp_path: Path) -> None:
    asked = plan(hosts=("h1", "h2", "h3"))
    with Store(tmp_path, write=True) as store:
        begun = open_night(asked, store, lambda text: None, resume=False)
        assert begun is not None
        ended, cut, interrupted = (store.begin_attempt(row) for row in store.cells(begun.id))
        cells = {cell.host.name: cell for cell in asked.cells()}
        leave(tmp_path / ended.run, cells["h1"], FakeResult({"load": Verdict.FAIL}))
        leave(tmp_path / cut.run, cells["h2"], FakeResult(), finished=False)
        leave(tmp_path / interrupted.run, cells["h3"], FakeResult(MISS))  # it was told to stop, too
        runner = FakeRunner()
        done = night(asked, store, runner)
        verdicts = {cell.host: cell.verdict for cell in store.cells(done.id)}
    assert sorted(key[0] for key in runner.asked) == ["h2", "h3"]
    assert verdicts == {"h1": "FAIL", "h2": "PASS", "h3": "PASS"}
    assert done.verdict == "FAIL"


_KILLED = """
import sys, time
from pathlib import Path
from harness.nightly.store import Store
from tests.nightly.fake import FakeRunner, FakeResult, night, plan
runner = FakeRunner()
def script(cell):
    if len(runner.asked) == 3:
        print("third", flush=True)
        time.sleep(60)
    return FakeResult()
runner.script = script
with Store(Path(sys.argv[1]), write=True) as store:
    night(plan(xens=("counter", "rwlock")), store, runner)
"""


def test_kill_9_loses_no_more_than_the_run_that_went_on(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"third\n"
    child.kill()
    child.communicate()
    rest = FakeRunner()
    with Store(tmp_path, write=True) as store:
        (unfinished,) = store.unfinished()
        done = night(plan(xens=("counter", "rwlock")), store, rest)
        cells = store.cells(done.id)
    assert done.id == unfinished.id and len(rest.asked) == 2
    assert {cell.verdict for cell in cells} == {"PASS"}


def test_a_fault_of_ours_ends_the_night_loudly_and_keeps_it(tmp_path: Path) -> None:
    def broken(cell: Cell) -> FakeResult:
        raise ZeroDivisionError

    with Store(tmp_path, write=True) as store:
        with pytest.raises(ZeroDivisionError):
            night(plan(), store, FakeRunner(broken))
        assert len(store.unfinished()) == 1


@pytest.mark.parametrize(("minutes", "state", "verdict"), [(59, "done", "MISS"), (61, "left", "")])
def test_a_fault_near_the_end_of_the_night(
    minutes: int, state: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab's fault stands when there is no time for another try; a run that the end of the
    night cut is nobody's fault."""
    now = [time.time()]

    def takes_long(cell: Cell) -> FakeResult:
        now[0] += minutes * 60
        return FakeResult(MISS)

    runner = FakeRunner(takes_long)
    monkeypatch.setattr("harness.nightly.loop.time.time", lambda: now[0])
    with Store(tmp_path, write=True) as store:
        done = night(plan(hosts=("h1",), budget_hours=1), store, runner)
        (cell,) = store.cells(done.id)
    assert len(runner.asked) == 1
    assert (cell.state, cell.verdict) == (state, verdict)
