# SPDX-License-Identifier: GPL-2.0-or-later
"""The outcome of a run, also of one that did not end by itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.nightly.outcome import metrics, read_outcome
from harness.results.records import Latency, Sample
from harness.verdict import ConfigError, LabError, Verdict
from tests.results import runs


def test_a_good_run(tmp_path: Path) -> None:
    runs.good(tmp_path / "run")
    outcome = read_outcome(tmp_path / "run")
    assert outcome.verdict is Verdict.PASS and outcome.message == ""
    assert outcome.build == runs.BUILD_ID and outcome.seed == 7
    assert {"operations_per_second", "send.dom0.p50_us", "send.domu.p99_us"} <= set(outcome.metrics)


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    runs.interrupted(tmp_path / "run")
    outcome = read_outcome(tmp_path / "run", LabError("did not end within 9 s"))
    assert (outcome.verdict, outcome.message) == (Verdict.MISS, "did not end within 9 s")


def test_what_a_run_found_goes_before_what_ended_it(tmp_path: Path) -> None:
    runs.failing(tmp_path / "run")
    outcome = read_outcome(tmp_path / "run", LabError("did not end within 9 s"))
    assert outcome.verdict is Verdict.FAIL and outcome.message.startswith("poll-leak")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(LabError("x"), Verdict.MISS), (ConfigError("x"), Verdict.ERROR), (None, Verdict.ERROR)],
)
def test_a_run_without_a_journal(error: LabError | None, verdict: Verdict, tmp_path: Path) -> None:
    assert read_outcome(tmp_path, error).verdict is verdict


def _latency(op: str, domain: str, count: int, p50: float, p99: float) -> Latency:
    return Latency("h", op, domain, count, p50, p50, p99, p99)


def test_figures() -> None:
    found = metrics(
        [Sample("h", 0.5, 10.0), Sample("h", 1.0, 30.0), Sample("h", 1.5, 20.0)],
        [
            _latency("send", "dom0", 2000, 40.0, 900.0),
            _latency("send", "domu1", 900, 4.0, 100.0),
            _latency("send", "domu2", 900, 16.0, 400.0),
            _latency("close", "domu1", 15, 5.0, 5.0),
            _latency("close", "domu2", 14, 5.0, 5.0),
        ],
    )
    assert found.pop("operations_per_second") == 20.0
    assert {name: round(value, 6) for name, value in found.items()} == {
        "send.dom0.p50_us": 40.0,
        "send.dom0.p99_us": 900.0,
        "send.domu.p50_us": round(math.sqrt(4 * 16), 6),
        "send.domu.p99_us": 200.0,
    }


def test_nothing_measured_is_no_figure() -> None:
    assert metrics([], []) == {}
    assert metrics([Sample("h", 1.0, 0.0)], [_latency("send", "dom0", 99, 0.0, 0.0)]) == {}
