# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made of a history once a load has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.history.simulate.bugs import inject
from harness.history.simulate.run import Recipe, generate
from harness.results.directory import RunDirectory
from harness.run.load import DisallowedHistory, Load


class Recorder:
    """The part of a run's recorder that judging needs."""

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        self.notes: list[str] = []
        self.progress = SimpleNamespace(note=self.notes.append)

    @contextlib.contextmanager
    def phase(self, _host: str, _name: str) -> Iterator[None]:
        yield

    def add(self, _record: object) -> None:
        """Latencies are of no interest here."""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def load(recorder: Recorder) -> Load:
    session: Any = SimpleNamespace(recorder=recorder, host=SimpleNamespace(name="h"))
    return Load(session)


def test_a_legal_history_leaves_no_picture(load: Load, tmp_path: Path) -> None:
    load.judge(generate(Recipe(seed=5)))
    assert load.artifacts == []
    assert list(tmp_path.iterdir()) == []


def test_the_picture_of_a_violation_is_an_artifact(load: Load, tmp_path: Path) -> None:
    injected = inject(Recipe(seed=5, kernel=0), "send refused")
    assert injected is not None
    with pytest.raises(DisallowedHistory, match="answer") as caught:
        load.judge(injected[0])
    assert "send(port" in caught.value.story
    assert load.artifacts[0].startswith("history/h/answer-")
    assert "<svg" in (tmp_path / load.artifacts[0]).read_text()


def test_a_picture_that_cannot_be_drawn_hides_no_violation(
    load: Load, recorder: Recorder, tmp_path: Path
) -> None:
    (tmp_path / "history").write_text("in the way")
    injected = inject(Recipe(seed=5, kernel=0), "send refused")
    assert injected is not None
    with pytest.raises(DisallowedHistory):
        load.judge(injected[0])
    assert load.artifacts == []
    assert "cannot write the witness" in recorder.notes[0]
