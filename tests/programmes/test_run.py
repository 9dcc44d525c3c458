# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told and kept after a hunt; the hunt itself is made up, the rest of the run is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.options import RunOptions
from harness.fuzz import run
from harness.fuzz.batches import Batch
from harness.fuzz.hunt import Counts, Found, Hunt
from harness.fuzz.programme import Seen, Step, What
from harness.fuzz.programme_file import read_file
from harness.results import records
from harness.run.opened import open_recorder
from harness.run.plan import Plan, make_plan
from harness.run.recorder import Recorder
from harness.verdict import LabError, Verdict

from .model_guest import DOMID, WORLD, Lie, ModelGuest


def _found() -> Found:
    def lie(_follower: object, step: Step, seen: Seen) -> Seen:
        return seen._replace(result=-1) if step.what == What.SEND else seen

    steps = (Step(What.BEGIN), Step(What.SEND, port=1))
    found = Hunt(ModelGuest(lie), WORLD, DOMID).batch(Batch(steps, 0))
    assert found is not None
    return found


def _hunted(
    monkeypatch: pytest.MonkeyPatch, found: Found | None, *, lock_code: Verdict | None = None
) -> None:
    def hunted(plan: Plan, _guest: object, recorder: Recorder, *_: object, **__: object) -> Any:
        if lock_code is not None:
            name = plan.hosts[0].name
            recorder.add(records.Test(name, "lock code", lock_code, 0.1, "refuted"))
        return run._Hunted("arm", Counts(programmes=1, operations=2, seconds=0.5), found, 0.5)

    monkeypatch.setattr(run, "_hunted", hunted)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(RunOptions(host=("qemu-arm64",), seed=1, out=tmp_path / "out"))


def test_what_is_found_is_kept_in_both_places(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _found()
    _hunted(monkeypatch, found)
    document = run.run_fuzz(plan, None, tmp_path / "new" / "corpus")
    assert document["verdict"] == "FAIL" and document["operations_per_second"] == 4.0
    (kept,) = (tmp_path / "new" / "corpus").iterdir()
    assert document["programme"] == str(kept)
    assert (tmp_path / "out" / kept.name).read_text() == kept.read_text()
    assert read_file(kept).batch() == found.batch
    assert json.loads(json.dumps(document)) == document
    assert f'"artifacts":["{kept.name}"]' in _journal(plan).replace(" ", ""), "the report links it"


def test_what_cannot_be_written_down_is_a_fail_all_the_same(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full: the verdict, the message and the calls are told."""

    def full(_path: Path, _file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "write_file", full)
    _hunted(monkeypatch, _found())
    document = run.run_fuzz(plan, None, tmp_path / "corpus")
    assert (document["verdict"], document["programme"]) == ("FAIL", None)
    assert document["message"] and document["calls"][-1] == "send(port=1) = -EPERM"
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("lock_code, verdict", [(None, "PASS"), (Verdict.FAIL, "FAIL")])
def test_lock_code_that_is_refuted_is_a_fail(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, lock_code: Verdict | None, verdict: str
) -> None:
    """The report says so as well."""
    _hunted(monkeypatch, None, lock_code=lock_code)
    document = run.run_fuzz(plan, None, None)
    assert document["verdict"] == verdict
    assert bool(document["message"]) is (verdict == "FAIL")
    assert f'"{verdict}"' in _journal(plan).splitlines()[-1]


@pytest.mark.parametrize("error", [LabError("no power"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_was_found_stays_found_if_the_machine_cannot_be_switched_off(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(run, "subject", _machine(_wrong, error))
    with open_recorder(plan, "programmes") as recorder:
        hunted = run._hunted(plan, None, recorder, [], random=True)
    assert hunted.found is not None and hunted.found.seen_again and hunted.seconds > 0


def test_where_nothing_was_found_that_is_no_verdict(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        run, "subject", _machine(lambda _f, _step, seen: seen, LabError("no power"))
    )
    short = replace(plan, duration=0.0)
    with open_recorder(short, "programmes") as recorder, pytest.raises(LabError):
        run._hunted(short, None, recorder, [], random=True)


def test_what_was_found_stays_found_if_the_journal_cannot_be_written(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has become full during the hunt."""

    def full(_recorder: Recorder, _record: object) -> None:
        raise LabError("No space left on device")

    with open_recorder(plan, "programmes") as recorder:
        monkeypatch.setattr(run, "subject", _machine(_wrong, None))
        with monkeypatch.context() as disk:
            disk.setattr(Recorder, "add", full)
            hunted = run._hunted(plan, None, recorder, [], random=True)
    assert hunted.found is not None and hunted.found.wrong.calls[-1].endswith("= -EPERM")


def _wrong(_follower: object, step: Step, seen: Seen) -> Seen:
    return seen._replace(result=-1) if step.what == What.SEND else seen


def _machine(lie: Lie, at_end: BaseException | None) -> Any:
    """Return a host on which ``lie`` is seen, and which cannot be switched off."""

    @contextmanager
    def subject(plan: Plan, _type: str | None, recorder: Recorder) -> Iterator[Any]:
        live = SimpleNamespace(
            build=SimpleNamespace(design="rwlock"),
            saved=False,
            host=plan.hosts[0],
            recorder=recorder,
            cause=lambda error: error,
        )
        yield SimpleNamespace(
            live=live, guest=ModelGuest(lie), world=WORLD, domid=DOMID, type="arm"
        )
        if at_end is not None:
            raise at_end

    return subject


def _journal(plan: Plan) -> str:
    assert plan.out is not None
    return (plan.out / "results.jsonl").read_text()
