# SPDX-License-Identifier: GPL-2.0-or-later
"""The last resort: what nobody foresaw is one line, exit code 3, and a traceback in a file."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest

from harness import cli, unforeseen
from harness.cli import lab
from harness.results import directory


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have ``evtchn-harness lab`` end with an error that nobody foresaw; return TMPDIR."""

    def fail(*_words: object, **_options: object) -> None:
        raise KeyError("\x1b[2Jgone")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(directory, "_made", [])
    monkeypatch.setattr(lab.command, "invoke", fail)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return ended.value.code


def test_it_is_one_line_and_the_traceback_a_file(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("lab", "check") == 3
    (line,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(
        r"error: not foreseen: KeyError: '\\x1b\[2Jgone' \(test_unforeseen\.py:\d+\); "
        r"the traceback is in (\S+): please report it",
        line.replace("tests/", ""),
    )
    assert found, line
    assert Path(found[1]).parent == broken
    assert "Traceback (most recent call last)" in Path(found[1]).read_text()


def test_with_json_it_is_a_document(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("lab", "check", "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["kind"]) == ("ERROR", "KeyError")


def test_the_file_is_in_the_directory_of_the_run(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = directory.create(broken / "out").path
    assert call("lab", "check") == 3
    assert f"the traceback is in {run}/traceback-1.txt" in capsys.readouterr().err
    assert call("lab", "check") == 3  # and the next one beside it
    assert (run / "traceback-2.txt").read_text().startswith("Traceback")


def test_a_directory_that_cannot_be_written_is_no_reason_to_lose_it(broken: Path) -> None:
    told = unforeseen.explained(ValueError("x"), broken / "none")
    assert str(broken) in told and "none" not in told


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_that_cannot_even_say_what_it_is(broken: Path) -> None:
    assert unforeseen.said(Mute()) == "Mute"
    assert "not foreseen: Mute;" in unforeseen.explained(Mute())
