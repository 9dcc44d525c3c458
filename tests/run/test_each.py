# SPDX-License-Identifier: GPL-2.0-or-later
"""A run after every patch: git and the builds are real, the runs are not made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import cache
from harness.config.options import RunOptions
from harness.hypervisor import series
from harness.run.each import run_each
from harness.run.plan import open_source
from harness.verdict import ConfigError
from tests.bisect.xen_history import git
from tests.hypervisor import mails
from tests.hypervisor.mails import EVENT_CHANNEL, commit, format_patch, make_repository
from tests.hypervisor.tree import make_tree


class Runs:
    """Says of each run what its tree's event_channel.c says: a line like "FAIL"."""

    def __init__(self) -> None:
        self.asked: list[RunOptions] = []

    def __call__(self, options: RunOptions, tests: Sequence[str]) -> dict[str, Any]:
        self.asked.append(options)
        text = (open_source(options).tree / EVENT_CHANNEL).read_text()
        verdict = "FAIL" if "= 4" in text else "MISS" if "= 7" in text else "PASS"
        message = "" if verdict == "PASS" else "load: port 7"
        return {"verdict": verdict, "message": "", "hosts": [{"message": message}]}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return make_repository(tmp_path / "xen-tree")


def options(repository: Path, *files: Path) -> RunOptions:
    return RunOptions(
        xen_git=str(repository), xen_ref="base", series=files, out=repository.parent / "out"
    )


def test_every_patch_has_a_verdict_and_the_first_that_fails_is_named(repository: Path) -> None:
    commit(repository, "evtchn: unmask three again", EVENT_CHANNEL, mails.source_text(unmask=3))
    files, runs, said = format_patch(repository), Runs(), list[str]()
    document = run_each(options(repository, *files), [], said.append, runs)
    assert [step["verdict"] for step in document["steps"]] == ["PASS", "FAIL", "PASS"]
    assert [step["subject"] for step in document["steps"]] == [
        "[PATCH 1/3] evtchn: send two",
        "[PATCH 2/3] evtchn: unmask four",
        "[PATCH 3/3] evtchn: unmask three again",
    ]
    assert document["steps"][-1]["tree"] == git(repository, "rev-parse", "main^{tree}")
    assert document["steps"][0]["file"] == str(files[0])
    assert (document["verdict"], document["first"], document["patches"]) == ("FAIL", 2, 3)
    assert document["message"] == (
        'the first FAIL is patch 2 of 3, "[PATCH 2/3] evtchn: unmask four": load: port 7'
    )
    out = repository.parent / "out"
    assert json.loads((out / "each.json").read_text()) == document
    assert [asked.out for asked in runs.asked] == [out / "runs" / str(n) for n in (1, 2, 3)]
    assert len({asked.seed for asked in runs.asked}) == 1
    assert [len(series.read(asked.series)) for asked in runs.asked] == [1, 2, 3]
    assert said[1] == "-- patch 2 of 3: [PATCH 2/3] evtchn: unmask four"


def test_a_mailbox_is_taken_apart(repository: Path, tmp_path: Path) -> None:
    box = tmp_path / "series.mbox"
    box.write_bytes(mails.mailbox(*(file.read_bytes() for file in format_patch(repository))))
    document = run_each(options(repository, box), [], lambda _: None, Runs())
    assert [step["verdict"] for step in document["steps"]] == ["PASS", "FAIL"]
    assert {step["file"] for step in document["steps"]} == {str(box)}


def test_a_patch_that_does_not_build_is_told_and_the_next_one_is_tried(repository: Path) -> None:
    git(repository, "reset", "-q", "--hard", "base")
    commit(repository, "broken", "xen/main.c", "int broken(void) { return oops; }\n")
    commit(
        repository,
        "mended",
        "xen/main.c",
        (make_tree(repository.parent / "x") / "xen/main.c").read_text(),
    )
    runs = Runs()
    document = run_each(options(repository, *format_patch(repository)), [], lambda _: None, runs)
    assert [step["verdict"] for step in document["steps"]] == ["MISS", "PASS"]
    assert document["steps"][0]["message"].startswith("does not build: xen/main.c:1: ")
    assert document["steps"][0]["path"] == "" and len(runs.asked) == 1
    assert document["first"] == 1


def test_all_good(repository: Path) -> None:
    git(repository, "reset", "-q", "--hard", "main~1")
    document = run_each(options(repository, *format_patch(repository)), [], lambda _: None, Runs())
    assert (document["verdict"], document["first"], document["message"]) == ("PASS", None, "")


def test_what_cannot_be_done_is_said_before_anything_is_built(repository: Path) -> None:
    with pytest.raises(ConfigError, match="--each needs --series"):
        run_each(options(repository), [], lambda _: None, Runs())
    files = format_patch(repository)
    git(repository, "checkout", "-q", "base")
    other = commit(repository, "other", EVENT_CHANNEL, mails.source_text(unmask=9))
    with pytest.raises(series.DoesNotApply, match="send two"):
        run_each(replace(options(repository, *files), xen_ref=other), [], lambda _: None, Runs())
    assert not (repository.parent / "out").exists()
