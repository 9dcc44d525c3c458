# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of nightly: usage errors, --json, exit codes; nothing is booted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import pytest

from harness.cli import nightly
from harness.nightly.store import Store
from harness.verdict import Verdict
from tests.nightly.fake import FakeResult, FakeRunner

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "nightly.md").read_text()
PLAN = "hosts: {qemu-arm64: }\nxens: {c: }\nsuites: {s: , t: }\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(PLAN)
    yield


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    """Stands for the real runner."""
    fake = FakeRunner()
    monkeypatch.setattr(nightly, "ChildRunner", lambda *arguments: fake)
    return fake


def _call(*words: str) -> int:
    code = nightly.command.main(list(words), standalone_mode=False)
    assert isinstance(code, int)
    return code


def _table(heading: str) -> list[str]:
    table = DOCS.split(heading, 1)[1].split("|---|---|\n", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `(\w+)`", table, re.MULTILINE)


def test_json_is_what_the_documentation_says(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.script = lambda cell: FakeResult({"load": Verdict.FAIL})
    assert _call("plan.yaml", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert list(said) == _table("`nightly --json`:")
    assert said["verdict"] == "FAIL" and said["state"] == "finished"
    for key, row in (("cells", said["cells"][0]), ("findings", said["findings"][0])):
        (words,) = re.findall(rf"^\| `{key}` \| list of (.*) \|$", DOCS, re.MULTILINE)
        named = re.findall(r"`(\w+)`", words)
        assert set(row) <= set(named)
    assert Path(said["dashboard"]).is_file() and Path(said["path"], "junit.xml").is_file()


def test_the_summary_is_printed(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call("plan.yaml") == 0
    said = capsys.readouterr()
    assert said.out.startswith("Subject: [evtchn nightly] PASS")
    assert said.out == Path("nightly/summary.txt").read_text()
    assert "-- qemu-arm64 c s: PASS" in said.err


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.PASS, 0), (Verdict.FAIL, 1), (Verdict.MISS, 3)]
)
def test_exit_codes(runner: FakeRunner, verdict: Verdict, code: int) -> None:
    runner.script = lambda cell: FakeResult({"load": verdict})
    assert _call("plan.yaml") == code


def test_ctrl_c_writes_the_reports_and_the_next_call_goes_on(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(cell: object) -> FakeResult:
        raise KeyboardInterrupt

    runner.script = stop
    with pytest.raises(click.Abort):  # what click makes of it; harness.cli.main exits with 130
        _call("plan.yaml")
    assert "has not ended" in Path("nightly/dashboard.html").read_text()
    assert "resumes night" in capsys.readouterr().err
    runner.script = lambda cell: FakeResult()
    assert _call("plan.yaml") == 0
    with Store(Path("nightly")) as store:
        assert len(store.nights(9)) == 1


def test_resume_without_a_night_is_no_fault(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call("plan.yaml", "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "SKIP"
    assert runner.asked == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml"], "error: none.yaml: cannot read the plan: No such file or directory"),
        (["plan.yaml", "--host", "qemu"], "error: --host: the plan has no host 'qemu'"),
        (["plan.yaml", "--collect", "none"], "error: none: there is no store"),
    ],
)
def test_usage_errors(words: list[str], message: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "harness.cli", "nightly", *words], capture_output=True, text=True
    )
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith(message) and len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_stops_it_leaves_nothing_behind_and_can_be_gone_on_with(
    blow: signal.Signals, tmp_path: Path
) -> None:
    """The real command, with a host that somebody else has for a long time."""
    busy = "hosts: {qemu-arm64: {acquire: 'echo $$ > begun; exec sleep 300'}}"
    Path("plan.yaml").write_text(PLAN.replace("hosts: {qemu-arm64: }", busy))
    words = [sys.executable, "-m", "harness.cli", "nightly", "plan.yaml", "--json"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun = tmp_path / "begun"
    deadline = time.monotonic() + 60
    while not begun.exists() or not begun.read_text().strip():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    waiting = psutil.Process(int(begun.read_text()))
    child.send_signal(blow)
    out, err = child.communicate(timeout=30)
    _, alive = psutil.wait_procs([waiting], timeout=5)
    assert alive == []
    with Store(Path("nightly"), write=True) as store:
        (night,) = store.unfinished()
        states = sorted(cell.state for cell in store.cells(night.id))
    if blow is signal.SIGKILL:
        assert child.returncode == -signal.SIGKILL and states == ["running", "waiting"]
        return
    assert child.returncode == 130 and states == ["waiting", "waiting"]
    assert json.loads(out)["verdict"] == "MISS" and f"resumes night {night.id}" in err
    assert "has not ended" in Path("nightly/dashboard.html").read_text()
