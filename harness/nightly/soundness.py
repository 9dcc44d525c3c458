# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a store as a harness writes it?  SQLite checks its pages; the values are checked here."""

from __future__ import annotations

import sqlite3

from harness.verdict import Verdict

_VERDICTS = ", ".join(f"'{verdict}'" for verdict in Verdict)
_TIME = "typeof({0}) = 'real' AND {0} BETWEEN 0 AND 32503680000"  # to the year 3000
_AMOUNT = "typeof({0}) IN ('real', 'integer') AND {0} BETWEEN 0 AND 1e30"

# By table, what holds for each row.  Only what is read with every night: the tests of years of
# nights are millions.
_RULES = {
    "night": (
        "typeof(id) = 'text' AND id GLOB '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9]*Z'",
        _TIME.format("started"),
        _TIME.format("deadline"),
        f"ended IS NULL OR ({_TIME.format('ended')})",
        f"verdict IN ('', {_VERDICTS})",
        "typeof(message) = 'text' AND typeof(plan) = 'text'",
    ),
    "cell": (
        "state IN ('waiting', 'running', 'done', 'left')",
        f"verdict IN ({_VERDICTS}) OR (verdict = '' AND state <> 'done')",
        f"started IS NULL OR ({_TIME.format('started')})",
        f"seconds IS NULL OR ({_AMOUNT.format('seconds')})",
        "typeof(operations) = 'integer' AND typeof(seed) IN ('integer', 'null')",
        " AND ".join(
            f"typeof({name}) = 'text'"
            for name in ("night", "host", "xen", "suite", "message", "run", "arch", "flavour")
        ),
        " AND ".join(f"typeof({name}) = 'text'" for name in ("version", "source", "build")),
    ),
}


def damage(db: sqlite3.Connection) -> str:
    """Return what is damaged in the store ``db``, in one line; "" if nothing is.

    Raises sqlite3.Error if it cannot even be read.
    """
    (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        return str(said).replace("\n", " ")
    for table, rules in _RULES.items():
        for rule in rules:
            wrong = f"SELECT id FROM {table} WHERE ({rule}) IS NOT TRUE LIMIT 1"
            found = db.execute(wrong).fetchone()
            if found is not None:
                return f"{table} {found[0]!r} has a value that no harness writes"
    return ""
