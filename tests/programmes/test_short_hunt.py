# SPDX-License-Identifier: GPL-2.0-or-later
"""A hunt as a test of a suite: what it leaves of the guest, and what it tells."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.agent.wire import AgentLost
from harness.config.options import RunOptions
from harness.conformance.reference_model import Disagreement, ReferenceModel
from harness.evidence import WrongAnswer
from harness.fuzz import short_hunt
from harness.fuzz.follow import Follower
from harness.fuzz.hunt import Counts
from harness.fuzz.programme import Seen, Step, What
from harness.fuzz.programme_file import read_file
from harness.model.evtchn.domain import World
from harness.run.plan import make_plan

from .model_guest import DOMID, WORLD, Lie, ModelGuest


class Hunted:
    """A guest on a Xen that lies as ``lie`` does, and the run that hunts in it."""

    def __init__(self, lie: Lie, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(short_hunt, "ProgrammeGuest", lambda _: ModelGuest(lie))
        self.model = ReferenceModel(WORLD)
        self.began: list[World] = []  # what the model knew when the guest was reset
        self.artifacts: list[str] = []
        self._place = place

    def run(self, seconds: float) -> Counts:
        bare: Any = SimpleNamespace(
            agent=SimpleNamespace(connection=None),
            domains=SimpleNamespace(model=self.model),
            domid=DOMID,
            type="arm",
            name="bare",
            now=WORLD.domain(DOMID),
            begin=lambda: self.began.append(self.model.world),
        )
        live: Any = SimpleNamespace(
            build=SimpleNamespace(design="counter"),
            host=SimpleNamespace(name="qemu-arm64"),
            plan=make_plan(RunOptions(host=("qemu-arm64",), seed=1)),
            recorder=SimpleNamespace(
                progress=SimpleNamespace(update=lambda _: None),
                directory=SimpleNamespace(path=self._place),
            ),
        )
        return short_hunt.short_hunt(live, bare, seconds, self.artifacts.append)


def _refuses_sends(follower: Follower, step: Step, seen: Seen) -> Seen:
    return seen._replace(result=-22) if step.what == What.SEND and not seen.result else seen


def test_the_guest_is_reset_from_what_it_has_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xen keeps more of a guest than a reset takes away: its buckets of ports."""
    hunted = Hunted(lambda _follower, _step, seen: seen, tmp_path, monkeypatch)
    counts = hunted.run(1.0)
    assert counts.operations > 1000 and not hunted.artifacts and not list(tmp_path.iterdir())
    (world,) = hunted.began
    assert world != WORLD and world.rules == WORLD.rules


def test_what_is_found_is_a_wrong_answer_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hunted = Hunted(_refuses_sends, tmp_path, monkeypatch)
    with pytest.raises(Disagreement) as raised:
        hunted.run(60.0)
    assert isinstance(raised.value.evidence, WrongAnswer)
    assert "send" in raised.value.story
    (name,) = hunted.artifacts
    assert read_file(tmp_path / name).guest == "arm"
    assert f"fuzz --replay {tmp_path / name}" in str(raised.value)
    assert not hunted.began


def test_a_full_disk_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(short_hunt, "write_file", full)
    hunted = Hunted(_refuses_sends, tmp_path, monkeypatch)
    with pytest.raises(Disagreement, match="No space left on device") as raised:
        hunted.run(60.0)
    assert isinstance(raised.value.evidence, WrongAnswer) and not hunted.artifacts


def test_the_programme_in_which_xen_hangs_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(_follower: Follower, step: Step, seen: Seen) -> Seen:
        if step.what == What.SEND:
            raise AgentLost("bare: no answer to 'programme'")
        return seen

    hunted = Hunted(hangs, tmp_path, monkeypatch)
    with pytest.raises(AgentLost):
        hunted.run(60.0)
    (name,) = hunted.artifacts
    known = read_file(tmp_path / name)
    assert known.message == "bare: no answer to 'programme'"
    assert any(step.what == "SEND" for step in known.steps)
