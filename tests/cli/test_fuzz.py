# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness fuzz`` without a machine: what it refuses, before anything boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["fuzz", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    "words, said",
    [
        (["--replay", "x.json", "--guest", "pv"], "--replay excludes --corpus and --guest"),
        (["--replay", "x.json", "--corpus", "."], "--replay excludes --corpus and --guest"),
        (["--replay", "none.json"], "none.json: cannot be read: No such file"),
        (["--duration", "0.1"], "--duration: 0.1 s is not between half a second and a day"),
        (["--host", "nobody"], "nobody"),
        (["--guest", "xbox"], "'xbox' is not one of"),
    ],
)
def test_what_it_refuses(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "no run was begun"


def test_a_programme_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "programme-1.json").write_text('{"version": 1}')
    assert run("--corpus", str(tmp_path)) == 2
    assert "programme-1.json: host: not a programme" in capsys.readouterr().err


def test_a_corpus_that_nothing_can_be_kept_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the hunt, not when something has been found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run("--corpus", "file/corpus") == 2
    assert "file/corpus: nothing can be kept here: Not a directory" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["file"], "no run was begun"
