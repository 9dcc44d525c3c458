# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on readers that an audit made or thought of, each as a test of its own."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.config.lab import load_lab
from harness.evidence import Disallowed, Operation
from harness.history.format import parquet
from harness.hypervisor.console import scan, symptom
from harness.hypervisor.series import _COVER_LETTER, _LONGEST_SUBJECT
from harness.machine.wires.tcp import Telnet
from harness.nightly.outcome import RunOutcome
from harness.nightly.store import Store
from harness.results import console as logs
from harness.results import records, store
from harness.results.directory import RunDirectory, create
from harness.results.journal import Journal
from harness.results.report import write_reports
from harness.verdict import ConfigError, HarnessError, LabError, Verdict
from tests.fuzz.outcomes import limited, memory
from tests.fuzz.readers import OfFile, Reader, all_readers, command
from tests.history.tiny import tiny
from tests.results import runs

pytestmark = pytest.mark.slow

HOST = "qemu-x86_64"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer: also if it waits for ever."""
    with limited(seconds, AssertionError(f"more than {seconds} s")):
        yield


def _command(*words: str | Path) -> tuple[tuple[int, str], list[str]]:
    answer, said = command(*words)
    assert isinstance(answer, tuple)
    return answer, list(said)


def journal_of(path: Path, *found: records.Record) -> RunDirectory:
    """A run whose journal has these records."""
    directory = create(path)
    with Journal(directory.journal) as journal:
        for record in found:
            journal.append(record)
    return directory


# -- what is no file ---------------------------------------------------------------------


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)  # no block of it is on the disk


@pytest.mark.parametrize("make", [_fifo, _endless, _folder, _huge])
def test_what_is_no_file_or_far_too_large_is_told_at_once(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    readers = [(each, each.read) for each in all_readers(tmp_path)]
    for reader, read in readers:
        if not isinstance(read, OfFile) or (make is _huge and reader.name in _LARGE):
            continue
        read.path.unlink(missing_ok=True)
        make(read.path)
        with within(10):
            _told(reader, read)
        shutil.rmtree(read.path) if read.path.is_dir() else read.path.unlink()


# Two may be large; the others read what "results.jsonl" reads.
_LARGE = ("the machine's memory", "nightly.sqlite", "coverage", "report", "suggest")


def _told(reader: Reader, read: OfFile) -> None:
    try:
        answer, warnings = read.read(read.path)
    except HarnessError as error:
        assert str(read.path.name) in str(error) or str(read.path.parent) in str(error)
    else:
        empty = reader.name in ("console logs", "the machine's memory")  # there is nothing to show
        assert warnings or empty, (reader.name, answer)


@pytest.mark.parametrize(
    "words",
    [
        ("check", "/dev/null/x"),
        ("check", "/dev/null"),
        ("report", "/dev/null/x"),
        ("coverage", "/dev/null/x"),
        ("interleave", "suggest", "/dev/null/x"),
        ("interleave", "replay", "/dev/null/x"),
        ("nightly", "/dev/null/x"),
        ("run", "--lab", "/dev/null/x"),
        ("run", "--series", "/dev/null/x"),
        ("run", "--xen-src", "/dev/null/x"),
    ],
)
def test_a_path_below_a_file_is_one_error_line(words: tuple[str, ...]) -> None:
    with pytest.raises(HarnessError) as caught:
        command(*words)
    assert "/dev/null" in str(caught.value)
    assert str(caught.value).startswith("error: ") and "\n" not in str(caught.value)


def test_coverage_cannot_be_written_below_a_file(tmp_path: Path) -> None:
    run = runs.good(tmp_path / "run").path
    with pytest.raises(LabError, match="cannot write the results: Not a directory"):
        command("coverage", run, "--out", "/dev/null/x")


# -- YAML ----------------------------------------------------------------------------------


def _bomb(first: str, more: str) -> str:
    lines = [f"a0: &a0 {first}"] + [
        f"a{n}: &a{n} {more.format(*[n - 1] * 9)}" for n in range(1, 12)
    ]
    return "\n".join(lines) + "\nhosts: {x: *a11}\n"


ALIASES = "[*a{0}, *a{1}, *a{2}, *a{3}, *a{4}, *a{5}, *a{6}, *a{7}, *a{8}]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_bomb("[x]", ALIASES), "more than 100,000 values, with its aliases written out"),
        (_bomb("{x: y}", "{{<<: " + ALIASES + "}}"), "more than 100,000 values"),
        ("hosts: " + "[" * 5000, "nested too deeply"),
        ("hosts: &a {x: *a}", "."),
        ("hosts: {x: {arch: x86_64, cpus: .nan}}", "a number that nobody can use"),
        ("hosts: {x: {arch: x86_64, cpus: .inf}}", "a number that nobody can use"),
        ("hosts: {x: {arch: x86_64, cpus: " + "9" * 4000 + "}}", "."),
        ("hosts: {x: {arch: x86_64, cpus: 0x" + "f" * 9000 + "}}", "."),
        ("hosts: {x: {arch: 0001-01-01T00:00:00+23:59}}", "cannot be '0001-01-01"),
        ("hosts: {x: {arch: !!bool maybe}}", "impossible value"),
        ("hosts: {x: {arch: !!timestamp now}}", "impossible value"),
        ('hosts: {"x\\u001b[2J": {arch: x86_64}}', "cannot be a host's name"),
        ('hosts: {"../x": {arch: x86_64}}', "cannot be a host's name"),
        ("# " + "x" * 300_000, "larger than 256 KiB"),
    ],
)
def test_a_lab_file_that_is_made_to_harm(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "lab.yaml").write_text(text)
    with within(5), pytest.raises(ConfigError, match=told):
        load_lab(tmp_path / "lab.yaml")


# -- journals ------------------------------------------------------------------------------

_SAMPLE = '{"time": "2026-01-01T00:00:00Z", "kind": "sample", "host": "h", "t": %s, "x": %s}'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (_SAMPLE % ("NaN", "1"), "damaged: NaN is no number"),
        (_SAMPLE % ("-Infinity", "1"), "damaged: -Infinity is no number"),
        (_SAMPLE % ("1e999", "1"), "too large"),
        (_SAMPLE % ("1" + "0" * 400, "1"), "too large"),
        (_SAMPLE % ("1", "9" * 5000), "damaged"),
        (_SAMPLE % ("1", "[" * 500 + "]" * 500), "nested too deeply"),
        ('{"time": "0001-01-01T00:00:00+23:59", "kind": "x"}', "no time of a run: the year 1"),
        ('{"time": "9999-12-31T23:59:59-23:59", "kind": "x"}', "no time of a run: the year 9999"),
        ('{"time": {"a": []}, "kind": "x"}', "Invalid isoformat"),
        ("x" * (5 << 20), "longer than 4 MiB"),
    ],
)
def test_a_line_of_a_journal_that_is_made_to_harm(tmp_path: Path, line: str, told: str) -> None:
    directory = create(tmp_path / "run")
    directory.journal.write_text(f"{line}\n")
    with within(10), memory(60):
        run = store.load(directory.path)
    (problem,) = run.problems
    assert told in problem and problem.endswith(", dropped")


def test_half_a_surrogate_pair_is_read_shown_and_kept(tmp_path: Path) -> None:
    test = records.Test(HOST, "a\ud800", Verdict.FAIL, 1.0, "b\udfff", "c\ud800")
    directory = journal_of(tmp_path / "run", records.RunStart(1, ("\udcff",), "1", (HOST,)), test)
    run = write_reports(directory.path)
    assert run.hosts[0].tests[0].message == "b\ufffd"
    with Store(tmp_path / "nights", write=True) as nights:
        night = nights.begin_night("plan", [(HOST, "x", "y")], 1_800_000_000.0, 60)
        attempt = nights.begin_attempt(nights.cells(night.id)[0])
        outcome = RunOutcome(Verdict.FAIL, "m\ud800", tests=(test,), seed=1 << 80)
        nights.end_attempt(attempt, outcome, state="done")
        assert nights.cells(night.id)[0].message == r"m\ud800"


def test_a_host_named_as_a_path_shows_no_file_outside_the_run(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "xen.log").write_text("in the log\n")
    for number, name in enumerate(("../../secret", f"{tmp_path}/secret", "\x1b[2J\0", "x" * 9000)):
        at = datetime(2026, 1, 1, tzinfo=UTC)
        directory = journal_of(
            tmp_path / f"run-{number}",
            records.Test(name, "boot", Verdict.MISS, 1.0),
            records.ConsoleEvent(name, "xen", at, "panic", "the secret"),
        )
        write_reports(directory.path)
        page = directory.report.read_text()
        assert "in the log" not in page
        assert "\x1b" not in page and "\0" not in page


def test_a_symbolic_link_in_a_console_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret\n")
    directory = runs.good(tmp_path / "run")
    link = directory.console(HOST) / "domu9.log"
    link.symlink_to(tmp_path / "secret")
    os.mkfifo(directory.console(HOST) / "domu8.log")
    with within(20):
        write_reports(directory.path)
    assert "the secret" not in directory.report.read_text()


def test_a_manifest_of_another_shape_is_a_warning(tmp_path: Path) -> None:
    directory = runs.good(tmp_path / "run")
    for text in ("[1]", '{"programs": []}', '{"ingredients": {"a": 1}}', '{"machine": "x"}', "{"):
        directory.manifest.write_text(text)
        assert store.load(directory.path).problems[0].startswith("manifest.json: ")
    (code, _), said = _command("report", directory.path)
    assert code == 0 and said[0].startswith("warning: manifest.json: ")


@pytest.mark.parametrize("release", ["x.y", "4", "4.17.1", "-1.2", "", "4." + "9" * 5000, "٤.١٧"])
def test_a_release_that_is_none_is_a_warning(tmp_path: Path, release: str) -> None:
    cells = records.Cells(HOST, "t", "x86_64 pv", "FIFO", release, ("close: ok",))
    start = records.RunStart(1, (), "1", (HOST,))
    directory = journal_of(tmp_path / "run", start, cells)
    (code, out), said = _command("coverage", directory.path, "--json")
    assert code == 0 and json.loads(out)["tested"] == 0
    assert "is no release of Xen, dropped" in said[0]


@pytest.mark.parametrize("words", [("coverage",), ("interleave", "suggest")])
def test_a_run_of_which_no_line_can_be_read_is_an_error(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    directory = runs.failing(tmp_path / "run")
    damaged = directory.journal.read_bytes().replace(b'"kind"', b'"kinb"')
    directory.journal.write_bytes(damaged)
    with pytest.raises(HarnessError, match=r"no line of the journal .*; give the directory"):
        command(*words, directory.path)


# -- much of everything --------------------------------------------------------------------


def test_8000_panics_take_seconds_in_a_report(tmp_path: Path) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    panics = (
        records.ConsoleEvent(HOST, "xen", at, "panic", f"Panic on CPU {n % 4000}:")
        for n in range(8000)
    )
    with within(60):
        directory = create(tmp_path / "run")
        body: list[records.Record] = [records.RunStart(1, (), "1", (HOST,)), *panics]
        directory.journal.write_text(
            "".join(
                json.dumps({"time": "2026-01-01T00:00:00Z", **records.to_json(record)}) + "\n"
                for record in body
            )
        )
        folder = directory.console(HOST)
        folder.mkdir(parents=True)
        lines = (f"2026-01-01T00:00:00.000Z Panic on CPU {n}:" for n in range(8000))
        (folder / "xen.log").write_text("\n".join(lines))
    with within(15):
        write_reports(directory.path)
    assert "Panic on CPU 0" in directory.report.read_text()


def test_3000_operations_take_seconds_in_suggest(tmp_path: Path) -> None:
    verbs = ("send", "close", "status", "bind_ipi", "unmask")
    operations = tuple(
        Operation(domain="dom0", verb=verbs[n % 5], arguments={"port": n}, begin=n, end=n + 3000.0)
        for n in range(3000)
    )
    test = records.Test(HOST, "load", Verdict.FAIL, 1.0, "no", evidence=Disallowed(
        property="order", operations=operations))  # fmt: skip
    directory = journal_of(tmp_path / "run", records.RunStart(1, (), "1", (HOST,)), test)
    with within(15):
        (code, out), _ = _command("interleave", "suggest", directory.path)
    assert code == 0 and "send-close" in out


def test_a_row_group_that_memory_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit made one of 20,000,000 rows, of a few KiB; here the limit is lower instead."""
    parquet.write(tiny(3), tmp_path / "h.parquet")
    monkeypatch.setattr(parquet, "_LARGEST_GROUP", 3)
    with pytest.raises(ConfigError, match=r"operations in one row group: .* write it again"):
        parquet.read(tmp_path / "h.parquet")


# -- what takes the square of its length -------------------------------------------------------

_LONG = 8192


@pytest.mark.parametrize(
    "text",
    [
        "[" * _LONG,
        "\x1b[" * (_LONG // 2),
        "\x1b[" + "0;" * (_LONG // 2),
        "Assertion '" + "' failed at " * (_LONG // 12),
        "BUG: " + "a: " * (_LONG // 3),
        "a: 0000" * (_LONG // 7),
        "[ 0.1] " * (_LONG // 7),
        "Unable to handle kernel " * (_LONG // 24),
        "Hardware Dom" + "1" * _LONG,
        "Xen BUG at x.c:" + "9" * _LONG,
    ],
)
def test_no_line_of_a_console_takes_long(text: str) -> None:
    with within(2):
        for stream in ("xen", "dom0"):
            scan(stream, text)
            symptom(stream, text)
        logs._line(text)
        logs._line(f"2026-01-01T00:00:00Z {text}")


@pytest.mark.parametrize("text", ["[0/0 ", "[", "[0 0/", "[00"])
def test_no_subject_of_a_mail_takes_long(text: str) -> None:
    with within(2):
        _COVER_LETTER.search((text * _LONG)[:_LONGEST_SUBJECT])


class Flood:
    """A socket that sends the same bytes again and again, so many in all."""

    def __init__(self, first: bytes, data: bytes, total: int) -> None:
        self._first, self._data, self._left = first, data, total

    def recv(self, size: int) -> bytes:
        if self._left <= 0:
            return b""
        sent = self._first + (self._data * (size // len(self._data) + 1))[:size]
        self._first = b""
        self._left -= len(sent)
        return sent

    def sendall(self, data: bytes) -> None:
        pass


@pytest.mark.parametrize(
    ("first", "data"),
    [(b"\xff\xfa", b"a"), (b"", b"\xff\xfa"), (b"\xff\xfa", b"\xff\xff"), (b"", b"\xff\xfb\x01")],
)
def test_a_telnet_negotiation_without_end_takes_no_memory(first: bytes, data: bytes) -> None:
    line = Telnet(Flood(first, data, 1 << 19))  # type: ignore[arg-type]
    with within(20), memory(2):
        while line.recv(65536):
            pass


def test_the_text_after_a_negotiation_without_end_is_not_lost() -> None:
    said = io.BytesIO(b"\xff\xfa" + b"a" * 9000 + b"(XEN) Panic\n")

    class Line:
        def recv(self, size: int) -> bytes:
            return said.read(4096)

    line, text = Telnet(Line()), b""  # type: ignore[arg-type]
    while part := line.recv(4096):
        text += part
    assert text.endswith(b"(XEN) Panic\n")
