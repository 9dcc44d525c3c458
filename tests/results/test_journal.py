# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: what was appended is there, whatever happens to the writer or the file."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results.journal import Journal, read
from harness.results.records import KINDS, Record, RunStart, Sample, Test, from_json, to_json
from harness.verdict import ConfigError, HarnessError, LabError, Verdict
from tests.results.runs import forge


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def _write(path: Path, count: int) -> list[Record]:
    written: list[Record] = [Sample("h", float(i), 100.0 + i) for i in range(count)]
    with Journal(path) as journal:
        for record in written:
            journal.append(record)
    return written


def test_what_was_appended_is_read_back_in_order_with_its_time(path: Path) -> None:
    before = datetime.now(UTC)
    written = _write(path, 5)
    after = datetime.now(UTC)
    reading = read(path)
    assert [entry.record for entry in reading.entries] == written
    times = [entry.time for entry in reading.entries]
    assert before <= times[0] <= times[-1] <= after
    assert reading.problems == ()


def test_a_line_is_one_json_object_with_utc_time_and_kind(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(Test("h", "naïve \u2028\ud800", Verdict.FAIL, 1.5, story="a\nb"))
    (line,) = path.read_bytes().splitlines()
    document = json.loads(line)
    assert line.isascii()
    assert document["kind"] == "test"
    assert document["verdict"] == "FAIL"
    assert document["time"].endswith("Z")
    assert datetime.fromisoformat(document["time"]).utcoffset() == timedelta(0)


def test_cut_at_any_byte_all_whole_lines_are_read(path: Path, tmp_path: Path) -> None:
    written = _write(path, 3)
    content = path.read_bytes()
    cut = tmp_path / "cut.jsonl"
    for size in range(len(content) + 1):
        cut.write_bytes(content[:size])
        reading = read(cut)
        whole = content[:size].count(b"\n")
        assert [entry.record for entry in reading.entries] == written[:whole]
        is_torn = size > 0 and content[size - 1 : size] != b"\n"
        expected = (f"cut.jsonl:{whole + 1}: cut off, dropped",) if is_torn else ()
        assert reading.problems == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\0\0\0\0", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"[1]", "not a JSON object"),
        (b'{"time": "2026-01-01T00:00:00Z", "kind": "nope"}', "unknown kind 'nope'"),
        (b'{"time": "2026-01-01T00:00:00Z", "kind": ["a"]}', "unknown kind ['a']"),
        (b'{"kind": "sample", "host": "h", "t": 1, "operations_per_second": 1}', "Invalid iso"),
        (b'{"time": "2026-01-01T00:00:00Z", "kind": "sample", "host": "h", "t": 1}', "field op"),
        (
            b'{"time": "2026-01-01T00:00:00Z", "kind": "host-end", "host": "h",'
            b' "verdict": "GOOD", "operations": 1}',
            "field verdict",
        ),
    ],
)
def test_a_damaged_line_is_reported_and_the_rest_read(path: Path, line: bytes, reason: str) -> None:
    written = _write(path, 2)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    reading = read(path)
    assert [entry.record for entry in reading.entries] == written
    (problem,) = reading.problems
    assert problem.startswith(f"results.jsonl:2: {reason}")
    assert problem.endswith(", dropped")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_content_whatsoever_is_fatal(content: bytes) -> None:
    path = Path("/dev/shm") / f"evtchn-journal-{threading.get_ident()}"
    try:
        path.write_bytes(content)
        read(path)
    finally:
        path.unlink()


_WRITER = """
import sys
from pathlib import Path
from harness.results.journal import Journal
from harness.results.records import Sample
journal = Journal(Path(sys.argv[1]))
for i in range(1_000_000):
    journal.append(Sample("h", float(i), 1.0))
    print(i, flush=True)
"""


def _start_writer(path: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _WRITER, str(path)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_sigkill_loses_nothing_that_append_returned_for(path: Path) -> None:
    writer = _start_writer(path)
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    assert read(path).growing
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=10)
    confirmed = 49 + rest.count("\n")
    reading = read(path)
    assert not reading.growing
    times = [entry.record.t for entry in reading.entries if isinstance(entry.record, Sample)]
    assert times[: confirmed + 1] == [float(i) for i in range(confirmed + 1)]


def test_a_second_writer_is_refused_while_the_first_lives_and_after(path: Path) -> None:
    with Journal(path) as first:
        with pytest.raises(ConfigError, match=r"another run writes .* --out") as caught:
            Journal(path)
        assert caught.value.where == str(path)
        first.append(Sample("h", 0.0, 1.0))
    with pytest.raises(ConfigError):
        Journal(path)
    assert len(read(path).entries) == 1


def test_threads_share_one_journal(path: Path) -> None:
    with Journal(path) as journal:

        def work(name: str) -> None:
            for i in range(50):
                journal.append(Sample(name, float(i), 1.0))

        threads = [threading.Thread(target=work, args=(str(n),)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    reading = read(path)
    assert reading.problems == ()
    for name in map(str, range(6)):
        mine = [e.record for e in reading.entries if getattr(e.record, "host", "") == name]
        assert mine == [Sample(name, float(i), 1.0) for i in range(50)]


def test_a_full_disk_is_one_clear_error_and_leaves_whole_lines(path: Path) -> None:
    """The size limit makes write(2) stop half way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as journal:
        journal.append(Sample("h", 0.0, 1.0))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
            with pytest.raises(LabError, match="cannot write the results") as caught:
                journal.append(Sample("h", 1.0, 1.0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.where == str(path)
        journal.append(Sample("h", 2.0, 1.0))
    reading = read(path)
    assert reading.problems == ()
    assert [getattr(entry.record, "t", None) for entry in reading.entries] == [0.0, 2.0]


def test_after_the_end_nothing_is_written(path: Path) -> None:
    with Journal(path) as journal:
        pass
    journal.close()
    with pytest.raises(HarnessError, match="after the journal was closed"):
        journal.append(Sample("h", 0.0, 1.0))


def test_a_number_that_json_has_not_is_refused(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(ValueError, match="JSON"):
        journal.append(Sample("h", float("nan"), 1.0))
    assert path.read_bytes() == b""


def test_no_journal_no_reading(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; give the directory of a run"):
        read(tmp_path / "results.jsonl")


def test_a_journal_cannot_be_where_no_folder_is(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file or directory"):
        Journal(tmp_path / "no" / "results.jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_the_journal(kind: str) -> None:
    strategy = st.from_type(KINDS[kind])

    @settings(max_examples=25, deadline=None)
    @given(strategy)
    def check(record: Record) -> None:
        written = json.dumps(to_json(record))
        document = json.loads(written)
        assert document["kind"] == kind
        assert json.dumps(to_json(from_json(document))) == written

    check()


def test_fields_of_a_newer_version_are_ignored_and_new_ones_have_defaults() -> None:
    old = {"kind": "test", "host": "h", "name": "n", "verdict": "PASS", "seconds": 1}
    assert from_json({**old, "colour": "red"}) == Test("h", "n", Verdict.PASS, 1.0)
    start = RunStart(1, ("a",), "v", ("h",))
    assert from_json(to_json(start)) == start


def test_a_changed_removed_or_doubled_line_is_told(path: Path) -> None:
    written = _write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    damages: dict[str, tuple[list[bytes], list[Record]]] = {
        "results.jsonl:2: not as it was written: wrong checksum, dropped": (
            [lines[0], lines[1].replace(b"101.0", b"102.0"), *lines[2:]],
            [written[0], *written[2:]],
        ),
        "results.jsonl:2: line 2 is missing": ([lines[0], *lines[2:]], [written[0], *written[2:]]),
        "results.jsonl:2: lines 2 to 3 are missing": (
            [lines[0], lines[3]],
            [written[0], written[3]],
        ),
        "results.jsonl:3: line 2 was written before line 2, dropped": (
            [*lines[:2], *lines[1:]],
            written,
        ),
    }
    for told, (changed, left) in damages.items():
        path.write_bytes(b"".join(changed))
        reading = read(path)
        assert reading.problems == (told,)
        assert [entry.record for entry in reading.entries] == left


def test_a_forged_journal_with_right_seals_is_read(path: Path) -> None:
    """A checksum finds damage; it is no signature."""
    _write(path, 2)
    forge(path, lambda text: text.replace("101.0", "999.0"))
    reading = read(path)
    assert reading.problems == () and reading.entries[1].record == Sample("h", 1.0, 999.0)
