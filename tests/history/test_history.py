"""Thread logs, clocks, and histories in files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.history.checker import check
from harness.history.format.columns import NEVER
from harness.history.format.history import History, ThreadLog
from harness.history.format.parquet import _SCHEMA, KEY, VERSION, Reader, read, write
from harness.history.format.record import RECORD, Op
from harness.history.simulate.run import Recipe, generate
from harness.verdict import ConfigError, Verdict

ROOT = Path(__file__).parents[2]


def log(*rows: tuple[int, int], hz: int = 1_000_000_000, zero: int = 0) -> ThreadLog:
    records = np.zeros(len(rows), RECORD)
    records["op"] = Op.SEND
    for index, (call, ret) in enumerate(rows):
        records[index]["call"], records[index]["ret"] = call, ret
    return ThreadLog(0, "dom0", 0, 0, records, hz, zero, 0)


def history(*logs: ThreadLog) -> History:
    return History("counter", (4, 17), "x86_64", "test", logs)


def test_times_round_outwards() -> None:
    third = log((0, 1), (2, 5), hz=300_000_000)  # a tick is 3 1/3 ns
    assert third.call_ns().tolist() == [0, 6]
    assert third.ret_ns().tolist() == [4, 17]


def test_times_before_zero_and_after_weeks() -> None:
    long = log((0, 10), (3_000_000_000 * 86_400 * 30, 0), hz=3_000_000_000, zero=6)
    assert long.call_ns().tolist() == [-2, 86_400 * 30 * 10**9 - 2]
    assert long.ret_ns().tolist() == [2, NEVER]


def test_counter_that_wrapped() -> None:
    wrapped = log((5, 7), zero=(1 << 64) - 3)
    assert wrapped.call_ns().tolist() == [8]


def test_written_and_read_the_same(tmp_path: Path) -> None:
    made = generate(Recipe(seed=3, crash=True, skew_ns=700))
    write(made, tmp_path / "h.parquet")
    again = read(tmp_path / "h.parquet")
    assert replace(again, threads=()) == replace(made, threads=())
    for one, two in zip(made.threads, again.threads, strict=True):
        assert (one.records == two.records).all()
        assert (one.tick_hz, one.ticks_at_zero, one.error_ns) == (
            two.tick_hz,
            two.ticks_at_zero,
            two.error_ns,
        )
    pieces = list(Reader(tmp_path / "h.parquet").pieces())
    assert len(pieces) == 1
    for name in ("row", "op", "via", "port", "result", "call", "ret", "log"):
        assert (getattr(pieces[0], name) == getattr(made.columns, name)).all()


def test_other_tools_see_names_and_times(tmp_path: Path) -> None:
    write(history(log((10, 20), (30, 0))), tmp_path / "h.parquet")
    rows = pq.read_table(tmp_path / "h.parquet").to_pylist()
    assert [row["op"] for row in rows] == ["SEND", "SEND"]
    assert [row["ret_ns"] for row in rows] == [20, None]
    assert rows[0]["domain"] == "dom0"


def test_page_names_every_column() -> None:
    page = (ROOT / "docs" / "history-format.md").read_text()
    assert set(_SCHEMA.names) <= set(re.findall(r"`(\w+)`", page))
    assert f"| `version` | {VERSION}." in page


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (log((5, 3)), "returned before it was called"),
        (log((1, 4), (2, 5)), "called before the one before returned"),
        (log((1, 0), (2, 5)), "never returned, but is not the thread's last"),
        (replace(log((1, 2)), tick_hz=0), "rate cannot be 0"),
        (replace(log((1, 2)), lost=-1), "cannot be negative"),
    ],
)
def test_impossible_logs(bad: ThreadLog, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        write(history(bad), tmp_path / "h.parquet")
    assert not list(tmp_path.iterdir())


def test_thread_twice() -> None:
    with pytest.raises(ConfigError, match="twice"):
        history(log((1, 2)), log((1, 2))).validate()


def broken(tmp_path: Path, how: str) -> Path:
    path = tmp_path / "h.parquet"
    write(generate(Recipe(seed=1)), path)
    whole = path.read_bytes()
    table = pq.read_table(path)
    head = json.loads(table.schema.metadata[KEY])
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "text":
            path.write_text("not a history\n" * 100)
        case "damaged":
            middle = len(whole) // 8
            path.write_bytes(whole[:middle] + b"\xff" * 400 + whole[middle + 400 :])
        case "other":
            pq.write_table(pa.table({"a": [1]}), path)
        case "version":
            head["version"] = VERSION + 1
        case "head":
            del head["threads"]
        case "flavour":
            head["flavour"] = "semaphore"
        case "short":
            table = table.slice(0, 10)
        case "column":
            table = table.drop_columns(["port"])
    if how in ("version", "head", "flavour", "short", "column"):
        pq.write_table(table.replace_schema_metadata({KEY: json.dumps(head).encode()}), path)
    return path


BROKEN = {
    "missing": "no such file",
    "empty": "the file is empty",
    "truncated": "truncated or damaged",
    "text": "truncated or damaged",
    "damaged": "truncated or damaged",
    "other": "not a history of this harness",
    "version": "history format 2",
    "head": "the head of the history is damaged",
    "flavour": "unknown flavour 'semaphore'",
    "short": "10 operations where the head promises",
    "column": "the columns are not those of a history",
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_give_one_clear_error(how: str, tmp_path: Path) -> None:
    path = broken(tmp_path, how)
    with pytest.raises(ConfigError, match=re.escape(BROKEN[how])) as caught:
        check(path)
    assert str(path) in str(caught.value)


def test_one_damaged_byte_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    write(generate(Recipe(seed=1, operations=60)), path)
    whole = path.read_bytes()
    operations = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    head = whole.index(b'"threads"', operations)
    for at in (*range(4, operations, 7), *range(head, head + 300, 7)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(ConfigError, match="damaged"):
            list(Reader(path).pieces())


def test_histories_of_older_harnesses_have_no_sums(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    write(generate(Recipe(seed=1)), path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({KEY: table.schema.metadata[KEY]}), path)
    assert check(path).verdict is Verdict.PASS
