# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories in files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.history.checker import check
from harness.history.format.parquet import _SCHEMA, KEY, VERSION, Reader, read, write
from harness.history.simulate.run import Recipe, generate
from harness.verdict import ConfigError, Verdict
from tests.history.format.test_history import history, log

ROOT = Path(__file__).parents[3]


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


def test_rules_are_kept_and_an_older_file_has_none(tmp_path: Path) -> None:
    made, path = history(log((10, 20))), tmp_path / "h.parquet"
    write(made, path)
    assert read(path).rules is None
    write(replace(made, rules=frozenset({"b", "a"})), path)
    assert read(path).rules == frozenset({"a", "b"})
    head = json.loads(pq.read_schema(path).metadata[KEY])
    assert (head["version"], head["rules"]) == (1, ["a", "b"])


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
