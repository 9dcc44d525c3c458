# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: one SQLite file with every night, which is also the journal of the current night.

What was committed is on the disk (``synchronous=FULL``), so a night is resumed from this file
after kill -9 or a power failure.  One process writes; others may read at the same time.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from harness import bounded
from harness.evidence import codec
from harness.nightly.outcome import RunOutcome
from harness.nightly.schema import (
    SCHEMA,
    TABLES,
    UPGRADES,
    Attempt,
    CellKey,
    CellRow,
    CellState,
    Night,
    TestRow,
)
from harness.nightly.soundness import damage
from harness.verdict import ConfigError, HarnessError, LabError, Verdict

FILE = "nightly.sqlite"
_NAME = "%Y%m%dT%H%M%SZ"  # of a night: UTC, so that names sort by time

# The second: the name or the error of what is damaged is no text.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
_VERDICTS = frozenset(Verdict)
_DAMAGED = "the store is damaged"
_ANOTHER = "take a copy that was saved, or give another --store"

_NIGHT = ", ".join(Night.__dataclass_fields__)
_CELL = ", ".join(CellRow.__dataclass_fields__)


class Store:
    """The store in directory ``home``.

    With ``write`` it is created if it does not exist, and locked: ConfigError if another process
    writes it.  Without ``write``: ConfigError if it does not exist.  LabError if it is damaged,
    also if that is found only in a ``with`` block, when its rows are read.
    """

    def __init__(self, home: Path, *, write: bool = False) -> None:
        self.home = home.absolute()
        self._lock: FileLock | None = None
        path = self.home / FILE
        if not write and not path.is_file():
            raise ConfigError(
                "there is no store", where=str(home), hint="give the --store of an earlier nightly"
            )
        try:
            if write:
                self.home.mkdir(parents=True, exist_ok=True)
                self._lock = FileLock(self.home / ".lock")
                self._lock.acquire(timeout=0)
            if path.exists():
                bounded.opened(path).close()  # a FIFO would never let us read
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._open(path)
        except Timeout:
            raise ConfigError(
                "another nightly is writing this store",
                where=str(home),
                hint="wait until it ends, or give another --store",
            ) from None
        except (OSError, *_UNREADABLE) as error:
            self._unlock()
            raise LabError(
                f"cannot open the store: {error}",
                where=str(path),
                hint="free space or mend permissions there",
            ) from error
        except HarnessError:
            self._unlock()
            raise

    def _open(self, path: Path) -> None:
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute("PRAGMA foreign_keys=ON")
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version in UPGRADES or version == SCHEMA:
            self._is_sound(path)
        if version == 0:
            self.db.executescript(f"BEGIN; {TABLES} PRAGMA user_version={SCHEMA}; COMMIT;")
        elif version in UPGRADES:
            self._upgrade()
        elif version != SCHEMA:
            self.db.close()
            raise ConfigError(
                f"the store has schema {version}, this harness knows {SCHEMA}",
                where=str(path),
                hint="use the harness that wrote it, or give another --store",
            )

    def _is_sound(self, path: Path) -> None:
        if why := damage(self.db):
            self.db.close()
            raise LabError(f"{_DAMAGED}: {why}", where=str(path), hint=_ANOTHER)

    def _upgrade(self) -> None:
        """Upgrade a store that an older harness wrote to SCHEMA, under the lock for writers."""
        lock = FileLock(self.home / ".lock", timeout=0) if self._lock is None else nullcontext()
        with lock:
            (now,) = self.db.execute("PRAGMA user_version").fetchone()
            while now in UPGRADES:
                now += 1
                self.db.executescript(
                    f"BEGIN; {UPGRADES[now - 1]} PRAGMA user_version={now}; COMMIT;"
                )

    def close(self) -> None:
        """Close the file and release the lock."""
        self.db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, _UNREADABLE):
            where = str(self.home / FILE)
            raise LabError(f"{_DAMAGED}: {error}", where=where, hint=_ANOTHER) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """Commit all that the block writes, or nothing if it raises.

        LabError if it cannot be written.
        """
        with closing(self.db.cursor()) as cursor:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                cursor.execute("COMMIT")
            except sqlite3.Error as error:
                if self.db.in_transaction:
                    cursor.execute("ROLLBACK")
                raise LabError(
                    f"cannot write the store: {error}",
                    where=str(self.home / FILE),
                    hint="free space or mend permissions there",
                ) from error
            except BaseException:
                cursor.execute("ROLLBACK")
                raise

    # -- the journal of a night --

    def begin_night(
        self, plan: str, keys: Iterable[CellKey], started: float, seconds: float
    ) -> Night:
        """Add a night of ``seconds`` with the cells ``keys``, all of them waiting; return it."""
        with self.transaction() as cursor:
            (last,) = cursor.execute("SELECT max(id) FROM night").fetchone()
            name = f"{datetime.fromtimestamp(started, UTC):{_NAME}}"
            if last is not None and name <= last:  # the same second, or a clock that was set back
                after = datetime.strptime(last, _NAME) + timedelta(seconds=1)
                name = f"{after:{_NAME}}"
            cursor.execute(
                "INSERT INTO night (id, plan, started, deadline) VALUES (?, ?, ?, ?)",
                (name, plan, started, started + seconds),
            )
            cursor.executemany(
                "INSERT INTO cell (night, host, xen, suite) VALUES (?, ?, ?, ?)",
                [(name, *key) for key in keys],
            )
        return self.night(name)

    def begin_attempt(self, cell: CellRow) -> Attempt:
        """Record that a run for ``cell`` begins; return the attempt, which has its directory."""
        now = time.time()
        with self.transaction() as cursor:
            (number,) = cursor.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM attempt WHERE cell = ?", (cell.id,)
            ).fetchone()
            run = f"nights/{cell.night}/{'-'.join(cell.key)}" + f"-{number}" * (number > 1)
            cursor.execute(
                "INSERT INTO attempt (cell, number, run, started) VALUES (?, ?, ?, ?)",
                (cell.id, number, run, now),
            )
            cursor.execute(
                "UPDATE cell SET state = 'running', run = ?, started = ? WHERE id = ?",
                (run, now, cell.id),
            )
        return Attempt(cell.id, number, run, now, None, "", "")

    def end_attempt(self, attempt: Attempt, outcome: RunOutcome, *, state: CellState) -> None:
        """Record the outcome of ``attempt``, and the new state of its cell.

        With ``done`` the outcome is the result of the cell; with ``waiting`` it is kept only as
        an attempt, and the cell will be run again.
        """
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE attempt SET ended = ?, verdict = ?, message = ?, cause = ?"
                " WHERE cell = ? AND number = ?",
                (
                    time.time(),
                    outcome.verdict,
                    _text(outcome.message),
                    outcome.cause,
                    attempt.cell,
                    attempt.number,
                ),
            )
            cursor.execute("UPDATE cell SET state = ? WHERE id = ?", (state, attempt.cell))
            if state == "done":
                self._keep(cursor, attempt.cell, outcome)

    def _keep(self, cursor: sqlite3.Cursor, cell: int, outcome: RunOutcome) -> None:
        cursor.execute(
            "UPDATE cell SET verdict = ?, message = ?, seconds = ?, arch = ?, flavour = ?,"
            " version = ?, source = ?, build = ?, seed = ?, operations = ? WHERE id = ?",
            (
                outcome.verdict,
                _text(outcome.message),
                outcome.seconds,
                *map(_text, (outcome.arch, outcome.flavour, outcome.version, outcome.source)),
                _text(outcome.build),
                _integer(outcome.seed),
                _integer(outcome.operations) or 0,
                cell,
            ),
        )
        numbers: dict[str, int] = {}
        for test in outcome.tests:
            number = numbers[test.name] = numbers.get(test.name, 0) + 1
            cursor.execute(
                "INSERT INTO test VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    cell,
                    _name(cursor, test.name),
                    number,
                    test.verdict,
                    test.seconds,
                    *map(_text, (test.message, test.story, "\n".join(test.artifacts))),
                    "" if test.evidence is None else json.dumps(codec.to_json(test.evidence)),
                ),
            )
        for metric, value in outcome.metrics.items():
            cursor.execute(
                "INSERT INTO metric VALUES (?, ?, ?)", (cell, _name(cursor, metric), value)
            )
        cursor.executemany(
            "INSERT INTO symptom VALUES (?, ?, ?, ?, ?)",
            [(cell, one.stream, one.kind, one.count, one.text) for one in outcome.symptoms],
        )

    def leave(self, cells: Sequence[CellRow], message: str) -> None:
        """Record that ``cells`` are not run this night, and why."""
        with self.transaction() as cursor:
            cursor.executemany(
                "UPDATE cell SET state = 'left', message = ?, run = '' WHERE id = ?",
                [(_text(message), cell.id) for cell in cells],
            )

    def end_night(self, night: str, verdict: Verdict, message: str) -> None:
        """Record that ``night`` has ended."""
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE night SET ended = ?, verdict = ?, message = ? WHERE id = ?",
                (time.time(), verdict, _text(message), night),
            )

    # -- reading --

    def nights(self, limit: int, *, until: str = "~") -> list[Night]:
        """Return the last ``limit`` nights up to ``until``, oldest first."""
        rows = self.db.execute(
            f"SELECT {_NIGHT} FROM night WHERE id <= ? ORDER BY id DESC LIMIT ?", (until, limit)
        )
        return [Night(*row) for row in rows][::-1]

    def night(self, name: str) -> Night:
        """Return night ``name``."""
        row = self.db.execute(f"SELECT {_NIGHT} FROM night WHERE id = ?", (name,)).fetchone()
        return Night(*row)

    def unfinished(self) -> list[Night]:
        """Return the nights that have not ended, oldest first."""
        rows = self.db.execute(f"SELECT {_NIGHT} FROM night WHERE ended IS NULL ORDER BY id")
        return [Night(*row) for row in rows]

    def cells(self, night: str) -> list[CellRow]:
        """Return the cells of ``night``, in the order of the plan."""
        rows = self.db.execute(f"SELECT {_CELL} FROM cell WHERE night = ? ORDER BY id", (night,))
        return [CellRow(*row) for row in rows]

    def attempts(self, night: str) -> list[Attempt]:
        """Return every run that was started in ``night``, in that order."""
        rows = self.db.execute(
            "SELECT attempt.cell, number, attempt.run, attempt.started, ended, attempt.verdict,"
            " attempt.message, cause FROM attempt JOIN cell ON cell.id = attempt.cell"
            " WHERE night = ? ORDER BY attempt.started",
            (night,),
        )
        return [Attempt(*row) for row in rows]

    def tests_of(self, night: str) -> dict[int, list[TestRow]]:
        """Return the outcomes of all tests of ``night``, by cell."""
        rows = self.db.execute(
            "SELECT cell.id, text, test.verdict, test.seconds, test.message, story, artifacts"
            " FROM cell JOIN test ON test.cell = cell.id JOIN name ON name.id = test.name"
            " WHERE night = ? ORDER BY cell.id, text, number",
            (night,),
        )
        found: dict[int, list[TestRow]] = {}
        for cell, name, verdict, seconds, message, story, artifacts in rows:
            files = tuple(artifacts.split("\n")) if artifacts else ()
            if verdict not in _VERDICTS:
                raise sqlite3.DataError(f"a test of cell {cell} has the verdict {verdict!r}")
            row = TestRow(name, Verdict(verdict), seconds, message, story, files)
            found.setdefault(cell, []).append(row)
        return found

    def verdicts(self, first: str) -> Iterator[tuple[str, str, str, str, str, str]]:
        """Yield night, verdict, run, host, Xen and suite of every cell run since ``first``."""
        yield from self.db.execute(
            "SELECT night, verdict, run, host, xen, suite FROM cell WHERE night >= ?"
            " AND state = 'done'",
            (first,),
        )

    def verdict_counts(self, first: str) -> Iterator[tuple[str, str, int]]:
        """Yield night, verdict (or "left") and number of cells since night ``first``."""
        yield from self.db.execute(
            "SELECT night, CASE state WHEN 'done' THEN verdict ELSE 'left' END AS what, count(*)"
            " FROM cell WHERE night >= ? GROUP BY night, what",
            (first,),
        )

    def metrics(
        self, first: str, names: Sequence[str]
    ) -> Iterator[tuple[str, str, str, str, str, float]]:
        """Yield night, host, Xen, suite, metric and value since night ``first``."""
        marks = ", ".join("?" * len(names))
        yield from self.db.execute(
            "SELECT night, host, xen, suite, text, value FROM name"
            " JOIN cell JOIN metric ON metric.cell = cell.id AND metric.name = name.id"
            f" WHERE text IN ({marks}) AND night >= ?",
            (*names, first),
        )

    def last_runs(self) -> dict[CellKey, tuple[str, float]]:
        """Return, for every cell that has ever been done, its last night and its seconds."""
        rows = self.db.execute(
            "SELECT host, xen, suite, max(night), seconds FROM cell"
            " WHERE state = 'done' AND seconds IS NOT NULL GROUP BY host, xen, suite"
        )
        return {(host, xen, suite): (night, seconds) for host, xen, suite, night, seconds in rows}


def _text(text: str) -> str:
    """Return ``text`` as SQLite can keep it: without half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def _integer(number: int | None) -> int | None:
    """Return ``number`` if SQLite can keep it; a seed of more than 64 bits is in the journal."""
    return number if number is None or -(1 << 63) <= number < 1 << 63 else None


def _name(cursor: sqlite3.Cursor, text: str) -> int:
    text = _text(text)
    cursor.execute("INSERT OR IGNORE INTO name (text) VALUES (?)", (text,))
    (found,) = cursor.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
    return int(found)
