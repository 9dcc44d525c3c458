# SPDX-License-Identifier: GPL-2.0-or-later
"""``run --each``: what it prints and its exit code; tests/run/test_each.py has the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import run
from harness.run import each
from harness.verdict import ConfigError, Verdict

_STEPS = [
    each.Step(1, "s.mbox", "[PATCH 1/2] one", "aa", Verdict.PASS, "", "/out/runs/1"),
    each.Step(2, "s.mbox", "[PATCH 2/2] two", "bb", Verdict.FAIL, "load: port 7", "/out/runs/2"),
]


def ended(monkeypatch: pytest.MonkeyPatch, *words: str, steps: int = 2) -> tuple[int, str]:
    def instead(*_: object) -> dict[str, Any]:
        return each._document(_STEPS[:steps], steps, Path("/out"))

    monkeypatch.setattr(each, "run_each", instead)
    done = CliRunner().invoke(run.command, ["--each", *words], standalone_mode=False)
    assert isinstance(done.return_value, int), done.exception
    return done.return_value, done.stdout


def test_a_line_for_each_patch_and_the_worst_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = ended(monkeypatch)
    assert code == 1
    assert said.splitlines() == [
        "PASS  1/2 [PATCH 1/2] one",
        "FAIL  2/2 [PATCH 2/2] two  load: port 7",
        'the first FAIL is patch 2 of 2, "[PATCH 2/2] two": load: port 7',
        "/out",
    ]
    assert ended(monkeypatch, steps=1) == (
        0,
        "PASS  1/1 [PATCH 1/2] one\nPASS after every patch\n/out\n",
    )


def test_the_document_is_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = ended(monkeypatch, "--json")
    document = json.loads(said)
    assert (code, document["verdict"], document["first"]) == (1, "FAIL", 2)
    page = (Path(__file__).parents[2] / "docs" / "series.md").read_text()
    table = page.split("| key | value |")[1]
    for key in (*document, *document["steps"][0]):
        assert f"`{key}`" in table


def test_it_is_not_for_git_bisect() -> None:
    done = CliRunner().invoke(run.command, ["--each", "--bisect-run"])
    assert isinstance(done.exception, ConfigError)
    assert "exclude each other" in str(done.exception)
