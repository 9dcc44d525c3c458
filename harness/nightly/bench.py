# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench dashboard``: how long it takes to write the dashboard of a very big lab, with the nights
of a year."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.nightly import dashboard
from harness.nightly.detect import detect_findings
from harness.nightly.outcome import THROUGHPUT
from harness.nightly.schema import Night
from harness.nightly.store import FILE, Store
from harness.verdict import Verdict

HOSTS, NIGHTS = 1000, 365
_TESTS = 14  # per cell, as testcases/ has
_METRICS = (
    THROUGHPUT, "send.domu.p50_us", "send.dom0.p50_us", "close.domu.p50_us", "send.domu.p99_us",
)  # fmt: skip
_MISSES, _FLAKES = 0.004, 0.00002  # probabilities: of a lab fault per cell, of a FAIL per test
_REGRESSED = 5  # for a week, one test fails on so many hosts, and so many others are slower
_MESSAGES = {
    Verdict.PASS: "",
    Verdict.FAIL: "an event was lost",
    Verdict.MISS: "dom0 does not answer",
}
_DAY = 86400.0
_ROUNDS = 3


def run() -> dict[str, float]:
    """Return how long the findings and the page (the slowest of three) took, in seconds, and the
    sizes of store and page."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        began = time.monotonic()
        fill_store(home, HOSTS, NIGHTS)
        metrics = {"hosts": HOSTS, "nights": NIGHTS, "fill_seconds": time.monotonic() - began}
        with Store(home, write=True) as store:
            began = time.monotonic()
            found = detect_findings(store, store.nights(1)[0])
            metrics["findings_seconds"] = time.monotonic() - began
            metrics["findings"] = len(found)
            for table in ("cell", "test", "metric"):
                (count,) = store.db.execute(f"SELECT count(*) FROM {table}").fetchone()
                metrics[f"rows_{table}"] = count
        seconds = []
        for _ in range(_ROUNDS):
            began = time.monotonic()
            with Store(home) as store:
                page = dashboard.write_dashboard(store)
            seconds.append(time.monotonic() - began)
        metrics["dashboard_seconds"] = max(seconds)
        metrics["dashboard_bytes"] = page.stat().st_size
        metrics["store_bytes"] = (home / FILE).stat().st_size
    return metrics


def fill_store(home: Path, hosts: int, nights: int) -> None:
    """Make a store in ``home`` with ``hosts`` hosts, one cell each, and ``nights`` nights."""
    random = np.random.default_rng(20201012)
    first = time.time() - nights * _DAY
    with Store(home, write=True) as store:
        store.db.execute("PRAGMA synchronous=OFF")  # these results are easily made again
        names = [f"test-{number}" for number in range(_TESTS)] + list(_METRICS)
        store.db.executemany("INSERT INTO name (text) VALUES (?)", [(name,) for name in names])
        for number in range(nights):
            begin = first + number * _DAY
            _night(store, hosts, number, begin, nights - number <= 7, random)


def _night(
    store: Store,
    hosts: int,
    number: int,
    begin: float,
    is_late: bool,
    random: np.random.Generator,
) -> None:
    keys = [(f"host{host:04}", "staging", "nightly") for host in range(hosts)]
    night = store.begin_night("bench", keys, begin, _DAY / 3)
    cells = store.cells(night.id)
    missed = random.random(hosts) < _MISSES
    failed = random.random((hosts, _TESTS)) < _FLAKES
    if is_late:
        failed[:_REGRESSED, 0] = True
    figures = np.exp(random.normal(0, 0.03, (hosts, len(_METRICS)))) * 1000
    if is_late:
        figures[_REGRESSED : 2 * _REGRESSED, 0] *= 0.8
    with store.transaction() as cursor:
        _end_cells(store, night, number, missed, failed)
        cursor.executemany(
            "INSERT INTO test VALUES (?, ?, 1, ?, 1.5, ?, '', '', '')",
            [
                (
                    cell.id,
                    test + 1,
                    (Verdict.FAIL if failed[host, test] else Verdict.PASS).value,
                    _MESSAGES[Verdict.FAIL] if failed[host, test] else "",
                )
                for host, cell in enumerate(cells)
                if not missed[host]
                for test in range(_TESTS)
            ],
        )
        cursor.executemany(
            "INSERT INTO metric VALUES (?, ?, ?)",
            [
                (cell.id, _TESTS + metric + 1, float(figures[host, metric]))
                for host, cell in enumerate(cells)
                if not missed[host]
                for metric in range(len(_METRICS))
            ],
        )
    store.end_night(night.id, Verdict.FAIL if failed.any() else Verdict.PASS, "")
    store.db.execute("UPDATE night SET ended = started + ? WHERE id = ?", (_DAY / 4, night.id))


def _end_cells(
    store: Store, night: Night, number: int, missed: np.ndarray, failed: np.ndarray
) -> None:
    build = f"{number * 2654435761 % 2**32:08x}" * 5
    rows = []
    for host, cell in enumerate(store.cells(night.id)):
        verdict = Verdict.FAIL if failed[host].any() else Verdict.PASS
        verdict = Verdict.MISS if missed[host] else verdict
        message = _MESSAGES[verdict]
        seconds = 300.0 + 30 * math.sin(host)
        rows.append((verdict.value, message, seconds, build, cell.id))
    store.db.executemany(
        "UPDATE cell SET state = 'done', verdict = ?, message = ?, seconds = ?, build = ?,"
        " arch = 'x86_64', flavour = 'rwlock', version = '4.19', source = 'git 4.19'"
        " WHERE id = ?",
        rows,
    )
