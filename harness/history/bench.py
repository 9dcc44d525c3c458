# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench check``: how fast the checker judges a long legal history, and how much memory it takes.

The history is a simulated load on two domains, repeated with every port closed in
between, written to a file and checked from there in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.history.checker import check
from harness.history.format.history import History
from harness.history.format.parquet import write
from harness.history.simulate.run import Recipe, generate
from harness.verdict import HarnessError, Verdict

SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
_SEED_OPERATIONS = 40_000
_GAP_NS = 1_000_000


def run() -> dict[str, float]:
    """Return seconds and peak memory by size, and the rate at the largest."""
    metrics: dict[str, float] = {}
    once = generate(Recipe(seed=1, operations=_SEED_OPERATIONS, domains=2, threads=2))
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder, "history.parquet")
            write(repeat(once, size), path)
            seconds, peak, operations = _measure(path)
            metrics[f"seconds_{size}"] = seconds
            metrics[f"peak_rss_bytes_{size}"] = peak
            metrics[f"operations_per_second_{size}"] = operations / seconds
    metrics["operations_per_second"] = metrics[f"operations_per_second_{SIZES[-1]}"]
    metrics["peak_rss_bytes"] = max(metrics[f"peak_rss_bytes_{size}"] for size in SIZES)
    return metrics


def repeat(history: History, operations: int) -> History:
    """Return ``history`` again and again, one after the other, up to ``operations``."""
    times = max(1, operations // history.operations)
    begin = min(int(log.call_ns()[0]) for log in history.threads if len(log.records))
    length = max(log.last_ns() for log in history.threads) - begin + _GAP_NS
    threads = []
    for log in history.threads:
        ticks = length * log.tick_hz // 1_000_000_000 + 1
        shift = np.repeat(np.arange(times, dtype=np.uint64), len(log.records)) * np.uint64(ticks)
        records = np.tile(log.records, times)
        records["call"] += shift
        records["ret"] += shift
        threads.append(replace(log, records=records))
    return replace(history, threads=tuple(threads))


def _measure(path: Path) -> tuple[float, float, int]:
    command = [sys.executable, "-P", "-m", "harness.history.bench", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HarnessError("the check that was to be measured failed", hint=done.stderr[-300:])
    seconds, peak, operations = json.loads(done.stdout)
    return seconds, peak, operations


def _main(path: Path) -> None:
    result = check(path)
    if result.verdict is not Verdict.PASS:
        raise HarnessError(f"a legal history was judged {result.verdict}")
    print(json.dumps([result.seconds, _peak_bytes(), result.operations]))


def _peak_bytes() -> int:
    """Return this program's own peak; ru_maxrss would include the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
