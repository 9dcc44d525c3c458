# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are shown: consoles do not command the terminal, addresses keep their secrets."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from harness.bisect.repository import Repository
from harness.cli import echo
from harness.cli.tables import print_table
from harness.hypervisor import source
from harness.nightly.outcome import RunOutcome
from harness.nightly.report_files import write_night
from harness.nightly.store import Store
from harness.progress import Progress
from harness.results import records
from harness.results.directory import create
from harness.results.journal import Journal
from harness.results.manifest import write_manifest
from harness.results.report import write_reports
from harness.shown import printable, shown, without_secrets
from harness.verdict import ConfigError, HarnessError, LabError, Verdict
from tests.nightly.fake import plan

HOME = Path(__file__).parents[1] / "harness"
# Clears the screen, sets the title, answers back, hides, and the 8-bit form of "ESC [".
ESCAPES = "\x1b[2J\x1b]0;title\x07\x1b[6n\x1b[8m\x9b31m\r\x08\x7f\u202e"
TOKEN = "ghp_s3cret"


def test_no_control_character_is_shown() -> None:
    text = printable(f"a\tb\n{ESCAPES}c")
    assert text.startswith("a\tb\n") and text.endswith("c")
    assert not re.search("[^\t\n -~]", text)
    assert "\\x1b[2J" in text and "\\x9b31m" in text, "it is not hidden that it was there"
    assert printable("domU1 → 3 µs, čeština") == "domU1 → 3 µs, čeština"


@pytest.mark.parametrize(
    ("address", "shown_as"),
    [
        ("https://me:s3cret@example.org/xen.git", "https://***@example.org/xen.git"),
        ("https://s3cret@example.org/xen.git", "https://***@example.org/xen.git"),
        ("https://x:s3@cret@example.org/xen.git", "https://***@example.org/xen.git"),
        ("HTTP://:s3cret@example.org", "HTTP://***@example.org"),
        ("ssh://me:s3cret@example.org/x", "ssh://me:***@example.org/x"),
        ("ssh://git@example.org/x", "ssh://git@example.org/x"),
        ("git@example.org:x", "git@example.org:x"),
        ("https://example.org/@user/x", "https://example.org/@user/x"),
        ("file:///srv/xen.git", "file:///srv/xen.git"),
        ("a <n@example.org> https://example.org", "a <n@example.org> https://example.org"),
    ],
)
def test_passwords_and_tokens_of_addresses(address: str, shown_as: str) -> None:
    assert without_secrets(address) == shown_as
    assert without_secrets(f"fatal: '{address}' in {address}.") == (
        f"fatal: '{shown_as}' in {shown_as}."
    )


def test_the_command_line_prints_text(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"{ESCAPES}https://{TOKEN}@x", err=True)
    print_table(["host"], [[f"[/x][bold]{ESCAPES}:bug:"]], 160)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\x9b" not in out + err and TOKEN not in err
    assert "[/x][bold]" in out and ":bug:" in out


def test_nothing_in_the_command_line_prints_past_that() -> None:
    for path in (HOME / "cli").glob("*.py"):
        text = path.read_text()
        allowed = {"__init__.py": 1, "build.py": 2}.get(path.name, 0)  # the progress of a build
        assert text.count("click.echo(") == allowed, path
        assert path.name == "tables.py" or "rich" not in text, path


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_markup_and_escapes_as_text(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.StringIO()
    progress = Progress(sink)
    progress._console = Console(
        file=sink, force_terminal=terminal, markup=False, emoji=False, soft_wrap=True, width=200
    )
    with progress.phase("[/x]", "boot"):
        progress.update(f"[/x] {ESCAPES} [bold]")
    progress.note(f"[/x] {ESCAPES}https://{TOKEN}@x")
    said = sink.getvalue()
    assert "[/x]" in said and "\\x1b[2J" in said
    assert "\x1b[2J" not in said and "\x1b]0;" not in said and "\x9b" not in said
    assert TOKEN not in said


def test_the_mail_of_a_night_has_no_escapes(tmp_path: Path) -> None:
    asked = plan(hosts=("h1",))
    with Store(tmp_path, write=True) as store:
        night = store.begin_night("x", [("h1", "counter", "load")], 1e9, 60)
        (cell,) = store.cells(night.id)
        attempt = store.begin_attempt(cell)
        outcome = RunOutcome(Verdict.MISS, f"{ESCAPES}\nBcc: all\nhttps://{TOKEN}@x")
        store.end_attempt(attempt, outcome, state="done")
        store.end_night(night.id, Verdict.MISS, "")
        write_night(store, night, asked.kcidb)
    mail = (tmp_path / "summary.txt").read_text()
    assert not re.search("[^\t\n -~]", mail) and TOKEN not in mail
    assert not re.search("^Bcc", mail, re.MULTILINE)


def test_no_file_of_a_run_has_the_token(tmp_path: Path) -> None:
    address = f"https://user:{TOKEN}@example.org/xen.git"
    argv = ("evtchn-harness", "run", "--xen-git", address, "--xen-ref", "master")
    directory = create(tmp_path / "run")
    write_manifest(directory, seed=1, argv=argv, hosts=(), ingredients=())
    with Journal(directory.journal) as journal:
        journal.append(records.RunStart(1, argv, "0", ("h",)))
        start = records.HostStart("h", "", "", "", "", "", "", f"git {address}")
        journal.append(start)
        test = records.Test("h", "t", Verdict.MISS, 1.0, f"no {address}", f"at {address}")
        journal.append(test)
        journal.append(records.RunEnd(Verdict.MISS, 1.0, f"no {address}"))
    write_reports(directory.path)
    for path in directory.path.rglob("*"):
        assert TOKEN not in path.read_text(), path
    assert "https://***@example.org/xen.git" in directory.report.read_text()


@pytest.mark.parametrize("kind", [HarnessError, ConfigError, LabError])
def test_no_error_has_the_token(kind: type[HarnessError]) -> None:
    address = f"https://{TOKEN}@example.org/xen.git"
    error = kind(f"no {address}", where=address, hint=f"see {address}", story=address)
    assert TOKEN not in f"{error}{error!r}{error.where}{error.story}"


def test_what_git_says_of_an_address_has_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVTCHN_HARNESS_CACHE", str(tmp_path))
    address = f"http://user:{TOKEN}@127.0.0.1:1/xen.git"  # nobody listens there
    for fetch in (lambda: Repository.open(address), lambda: source.from_git(address, "master")):
        with pytest.raises(ConfigError) as caught:
            fetch()
        assert TOKEN not in str(caught.value) and "127.0.0.1" in str(caught.value)


def test_json_stays_json() -> None:
    text = json.dumps({"a": [f"https://x:{TOKEN}@h/", "b@c", "d://e"], "f": '"@'})
    assert json.loads(shown(text)) == {"a": ["https://***@h/", "b@c", "d://e"], "f": '"@'}


def test_an_error_on_the_terminal_has_no_escapes(tmp_path: Path) -> None:
    argv = ["evtchn-harness", "report", str(tmp_path / "\x1b[2J")]
    code = "from harness.cli import main; import sys; main(sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", code, *argv[1:]], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and "\x1b" not in ended.stderr and "\\x1b[2J" in ended.stderr


@pytest.mark.parametrize("part", ["a.", "a", "://", "a://", "http://x", "a+b-c.", "@", "\x1b["])
def test_a_million_characters_take_no_time(part: str) -> None:
    began = time.thread_time()
    shown(part * (1_000_000 // len(part)))
    assert time.thread_time() - began < 2
