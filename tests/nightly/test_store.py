# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: who may write it, what a kill leaves, and the errors of a wrong file."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.evidence import Hang, Spin, codec
from harness.nightly.detect import detect_findings
from harness.nightly.outcome import RunOutcome
from harness.nightly.schema import SCHEMA, TABLES, Cause
from harness.nightly.store import FILE, Store
from harness.results.records import Test
from harness.verdict import EXIT_USAGE, ConfigError, LabError, Verdict

KEYS = [("h1", "counter", "load"), ("h2", "counter", "load")]


def test_one_writes_and_others_read(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        begun = store.begin_night("plan", KEYS, 1_800_000_000.0, 60)
        with pytest.raises(ConfigError, match="another nightly is writing this store"):
            Store(tmp_path, write=True)
        with Store(tmp_path) as reader:
            assert reader.nights(5) == [begun]
            assert [cell.key for cell in reader.cells(begun.id)] == KEYS
    with Store(tmp_path, write=True) as store:
        assert store.nights(5) == [begun]


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store"):
        Store(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_store_of_another_schema_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path, write=True).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=f"schema 99, this harness knows {SCHEMA}") as caught:
        Store(tmp_path, write=True)
    assert caught.value.exit_code == EXIT_USAGE


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is no database, and long enough to be seen as none" * 40)
    with pytest.raises(LabError, match=r"cannot open the store: .*database"):
        Store(tmp_path, write=True)
    with pytest.raises(LabError):  # and not "another nightly is at work": it let go
        Store(tmp_path, write=True)


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        with pytest.raises(ZeroDivisionError), store.transaction() as cursor:
            cursor.execute("INSERT INTO name (text) VALUES ('x')")
            raise ZeroDivisionError
        with pytest.raises(LabError, match="cannot write the store"), store.transaction() as cursor:
            cursor.execute("INSERT INTO name (text) VALUES ('x')")
            cursor.execute("INSERT INTO nothing VALUES (1)")
        assert store.db.execute("SELECT count(*) FROM name").fetchone() == (0,)


def test_a_night_always_has_a_later_name_than_the_one_before(tmp_path: Path) -> None:
    """Also within one second, and when the clock is set back."""
    with Store(tmp_path, write=True) as store:
        clock = (1_800_000_000.0, 1_800_000_000.5, 1_700_000_000.0)
        names = [store.begin_night("p", KEYS, begin, 60).id for begin in clock]
        assert [night.id for night in store.nights(9)] == names
    assert names == ["20270115T080000Z", "20270115T080001Z", "20270115T080002Z"]


def test_a_cell_knows_how_long_it_took_last(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        for seconds in (10.0, 20.0):
            begun = store.begin_night("p", KEYS, 1_800_000_000.0, 60)
            attempt = store.begin_attempt(store.cells(begun.id)[0])
            store.end_attempt(attempt, RunOutcome(Verdict.PASS, seconds=seconds), state="done")
        assert store.last_runs() == {KEYS[0]: (begun.id, 20.0)}


def test_attempts_have_directories_of_their_own(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        begun = store.begin_night("p", KEYS, 1_800_000_000.0, 60)
        runs = []
        for _ in range(2):
            attempt = store.begin_attempt(store.cells(begun.id)[0])
            runs.append(attempt.run)
            store.end_attempt(attempt, RunOutcome(Verdict.MISS), state="waiting")
    home = f"nights/{begun.id}/h1-counter-load"
    assert runs == [home, f"{home}-2"]


_SINCE_SCHEMA_2 = ("cause TEXT", "evidence TEXT")
_SINCE_SCHEMA_3 = re.compile(r"CREATE TABLE symptom .*?WITHOUT ROWID;\n", re.DOTALL)


def _old_store(home: Path) -> None:
    """Make a store as an older harness left it: two nights of one cell that fails, and in the
    second an attempt that was stopped."""
    lines = _SINCE_SCHEMA_3.sub("", TABLES).splitlines()
    tables = "\n".join(line for line in lines if not line.strip().startswith(_SINCE_SCHEMA_2))
    assert tables.count("\n") == len(lines) - len(_SINCE_SCHEMA_2) - 1
    with closing(sqlite3.connect(home / FILE)) as db:
        db.executescript(tables)
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO name VALUES (1, 'load')")
        for number, name in enumerate(("20270115T080000Z", "20270116T080000Z"), 1):
            db.execute("INSERT INTO night VALUES (?, 'p', 0, 9, 9, 'FAIL', '')", (name,))
            db.execute(
                "INSERT INTO cell (id, night, host, xen, suite, state, verdict, build)"
                " VALUES (?, ?, 'h1', 'counter', 'load', 'done', 'FAIL', 'b')",
                (number, name),
            )
            db.execute(
                "INSERT INTO test VALUES (?, 1, 1, 'FAIL', 1.0, 'Xen hangs: CPU0', '', '')",
                (number,),
            )
        db.execute("INSERT INTO attempt VALUES (2, 1, '', 0, 9, 'MISS', 'the nightly was stopped')")
        db.execute("INSERT INTO attempt VALUES (2, 2, '', 0, 9, 'FAIL', 'Xen hangs: CPU0')")
        db.commit()


@pytest.mark.parametrize("write", [False, True])
def test_a_store_of_an_older_harness_is_upgraded(tmp_path: Path, write: bool) -> None:
    _old_store(tmp_path)
    with Store(tmp_path, write=write) as store:
        first, last = store.nights(5)
        assert [attempt.cause for attempt in store.attempts(last.id)] == [Cause.STOPPED, ""]
        assert [row.message for row in store.tests_of(first.id)[1]] == ["Xen hangs: CPU0"]
    with Store(tmp_path, write=True) as store:
        (found,) = detect_findings(store, last)
        assert (found.judgement.kind, found.judgement.since, found.is_new) == (
            "failing",
            first.id,
            True,
        )
        seen = Hang(cpus=(Spin(cpu=0, function="evtchn_write_lock", where=""),))
        tonight = store.begin_night("p", [("h1", "counter", "load")], 1_801_000_000.0, 60)
        attempt = store.begin_attempt(store.cells(tonight.id)[0])
        test = Test("h1", "load", Verdict.FAIL, 1.0, "words", evidence=seen)
        store.end_attempt(attempt, RunOutcome(Verdict.FAIL, build="b", tests=(test,)), state="done")
        (found,) = detect_findings(store, tonight)
        assert (found.judgement.since, found.is_new) == (first.id, False)
        (stored,) = store.db.execute("SELECT evidence FROM test WHERE evidence != ''").fetchone()
        assert codec.from_json(json.loads(stored)) == seen
