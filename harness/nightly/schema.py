# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the store, and the types of their rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from harness.verdict import Verdict

SCHEMA = 3  # PRAGMA user_version
CellState = Literal["waiting", "running", "done", "left"]
CellKey = tuple[str, str, str]  # host, Xen, suite

TABLES = """
CREATE TABLE night (
    id TEXT PRIMARY KEY,      -- begin, UTC: 20261125T010000Z
    plan TEXT NOT NULL,       -- digest of what the plan asks for
    started REAL NOT NULL,    -- seconds since 1970, as all times here
    deadline REAL NOT NULL,
    ended REAL,               -- NULL: it is running, or was killed
    verdict TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE cell (
    id INTEGER PRIMARY KEY,
    night TEXT NOT NULL REFERENCES night,
    host TEXT NOT NULL, xen TEXT NOT NULL, suite TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',  -- running, done; left: no time for it
    verdict TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL DEFAULT '',           -- directory of the run that counts, below the store
    started REAL, seconds REAL,
    arch TEXT NOT NULL DEFAULT '', flavour TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '', source TEXT NOT NULL DEFAULT '',
    build TEXT NOT NULL DEFAULT '',         -- GNU build id
    seed INTEGER, operations INTEGER NOT NULL DEFAULT 0,
    UNIQUE (night, host, xen, suite)
);
CREATE INDEX cell_by_key ON cell (host, xen, suite, night);
CREATE TABLE attempt (        -- every run that was started for a cell, retries included
    cell INTEGER NOT NULL REFERENCES cell,
    number INTEGER NOT NULL,
    run TEXT NOT NULL, started REAL NOT NULL, ended REAL,
    verdict TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    cause TEXT NOT NULL DEFAULT '',         -- stopped: by us, which is no fault of the lab
    PRIMARY KEY (cell, number)
) WITHOUT ROWID;
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE test (           -- of the run that counts; number: a test may run several times
    cell INTEGER NOT NULL REFERENCES cell,
    name INTEGER NOT NULL REFERENCES name,
    number INTEGER NOT NULL,
    verdict TEXT NOT NULL, seconds REAL NOT NULL,
    message TEXT NOT NULL DEFAULT '', story TEXT NOT NULL DEFAULT '',
    artifacts TEXT NOT NULL DEFAULT '',     -- one path a line, below the run's directory
    evidence TEXT NOT NULL DEFAULT '',      -- JSON: docs/results.md; '': none
    PRIMARY KEY (cell, name, number)
) WITHOUT ROWID;
CREATE TABLE metric (
    cell INTEGER NOT NULL REFERENCES cell,
    name INTEGER NOT NULL REFERENCES name,
    value REAL NOT NULL,
    PRIMARY KEY (cell, name)
) WITHOUT ROWID;
CREATE TABLE symptom (        -- what consoles complained of in the run that counts
    cell INTEGER NOT NULL REFERENCES cell,
    stream TEXT NOT NULL, kind TEXT NOT NULL,
    count INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (cell, stream, kind)
) WITHOUT ROWID;
CREATE TABLE finding (        -- as of the end of that night
    night TEXT NOT NULL REFERENCES night,
    host TEXT NOT NULL, xen TEXT NOT NULL, suite TEXT NOT NULL,
    name TEXT NOT NULL,       -- of the test or the metric
    kind TEXT NOT NULL,       -- failing, flaky, fixed, slower, drift, symptom
    is_new INTEGER NOT NULL, since TEXT NOT NULL, text TEXT NOT NULL,
    build_before TEXT NOT NULL, build_after TEXT NOT NULL,
    low REAL, value REAL, high REAL,
    PRIMARY KEY (night, host, xen, suite, name, kind)
) WITHOUT ROWID;
"""

# For each older schema, the statements that upgrade a store to the next one.  In schema 1 only the
# message showed that an attempt was stopped.
UPGRADES = {
    1: """
ALTER TABLE test ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN cause TEXT NOT NULL DEFAULT '';
UPDATE attempt SET cause = 'stopped' WHERE message = 'the nightly was stopped';
""",
    2: """
CREATE TABLE symptom (
    cell INTEGER NOT NULL REFERENCES cell,
    stream TEXT NOT NULL, kind TEXT NOT NULL,
    count INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (cell, stream, kind)
) WITHOUT ROWID;
""",
}


class Cause(StrEnum):
    """Why a run ended, if that matters for what is run next."""

    UNKNOWN = ""
    STOPPED = "stopped"  # the nightly ended it


@dataclass(frozen=True)
class Night:
    """One night."""

    id: str
    plan: str
    started: float
    deadline: float
    ended: float | None
    verdict: str
    message: str


@dataclass(frozen=True)
class CellRow:
    """One cell in one night."""

    id: int
    night: str
    host: str
    xen: str
    suite: str
    state: CellState
    verdict: str  # "" as long as there is none
    message: str
    run: str
    started: float | None
    seconds: float | None
    arch: str
    flavour: str
    version: str
    source: str
    build: str
    seed: int | None
    operations: int

    @property
    def key(self) -> CellKey:
        """Host, Xen and suite: the same in every night."""
        return self.host, self.xen, self.suite


@dataclass(frozen=True)
class TestRow:
    """One outcome of one test of one cell."""

    __test__ = False  # pytest: this is a value, not a test class
    name: str
    verdict: Verdict
    seconds: float
    message: str
    story: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """One run that was started for a cell."""

    cell: int
    number: int
    run: str
    started: float
    ended: float | None
    verdict: str
    message: str
    cause: str = Cause.UNKNOWN
