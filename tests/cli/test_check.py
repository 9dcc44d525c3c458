# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchn-harness check: exit codes, JSON keys, one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.history.format.parquet import write
from harness.history.simulate.bugs import inject
from harness.history.simulate.run import Recipe, generate


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_legal_history_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(generate(Recipe(seed=5)), tmp_path / "h.parquet")
    code, out, _ = check(capsys, str(tmp_path / "h.parquet"), "--json")
    document = json.loads(out)
    assert code == 0
    assert document["verdict"] == "PASS"
    assert document["operations"] > 100
    assert document["violations"] == []
    assert {"undecided", "seconds"} <= document.keys()


def test_violation_fails_with_witness_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    injected = inject(Recipe(seed=5, kernel=0), "send refused")
    assert injected is not None
    write(injected[0], tmp_path / "h.parquet")
    words = (str(tmp_path / "h.parquet"), "--json", "--html", str(tmp_path / "html"))
    code, out, _ = check(capsys, *words)
    violation = json.loads(out)["violations"][0]
    assert code == 1
    assert violation["property"] == "answer"
    assert ">>" in violation["witness"]
    page = Path(violation["html"]).read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    code, out, _ = check(capsys, str(tmp_path / "h.parquet"))
    assert code == 1
    assert "send(port" in out


def test_same_history_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.parquet", "b.parquet"):
        write(generate(Recipe(seed=5)), tmp_path / name)
    code, out, err = check(capsys, str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"))
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "the same history as" in err


def test_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "h.parquet").write_bytes(b"")
    code, _, err = check(capsys, str(tmp_path / "h.parquet"))
    assert code == 2
    assert err == f"error: {tmp_path}/h.parquet: the file is empty\n"
