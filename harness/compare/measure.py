# SPDX-License-Identifier: GPL-2.0-or-later
"""What one run of one variant showed: verdicts, speed, latencies, and Xen's answers."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.history.format.parquet import Reader
from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import Errno
from harness.results.directory import RunDirectory
from harness.results.records import Latency
from harness.results.store import HostRun, load
from harness.verdict import ConfigError, LabError, Verdict

_ERRNO = {-int(errno): errno.name for errno in Errno}


@dataclass(frozen=True)
class TestOutcome:
    """The outcome of one test in one run."""

    __test__ = False  # pytest: this is a value, not a test class
    name: str
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True)
class Measurement:
    """What one run showed."""

    tests: tuple[TestOutcome, ...] = ()
    throughput: float = 0.0  # operations per second under load; 0: there was no load
    latency: Mapping[str, float] = field(default_factory=dict)  # us, median, by operation
    tail: Mapping[str, float] = field(default_factory=dict)  # us, 99th percentile
    answers: Mapping[str, int] = field(default_factory=dict)  # "poll: EINVAL" -> how often
    seconds: float = 0.0  # what the run took

    @property
    def failed(self) -> bool:
        """Whether a test failed because of Xen."""
        return any(test.verdict is Verdict.FAIL for test in self.tests)

    @property
    def fault(self) -> str:
        """Why the lab kept a test from running to its end; "" if it did not.

        After a failure of Xen, what else goes wrong is a consequence of it, not a lab fault.
        """
        if self.failed:
            return ""
        if not self.tests:
            return "no test ran"
        faults = (test for test in self.tests if test.verdict in (Verdict.MISS, Verdict.ERROR))
        first = next(faults, None)
        return f"{first.name}: {first.message}" if first else ""


def read_measurement(place: Path) -> Measurement:
    """Return what the run in directory ``place`` (of one host) showed.

    If the run left no results, the measurement is empty.  LabError if a history is unreadable.
    """
    run = load(place) if RunDirectory(place).journal.exists() else None
    if run is None or not run.hosts:
        return Measurement()
    host = run.hosts[0]
    rates = [sample.operations_per_second for sample in host.samples]
    return Measurement(
        tests=tuple(TestOutcome(test.name, test.verdict, test.message) for test in host.tests),
        throughput=statistics.fmean(rates) if rates else 0.0,
        latency=_over_domains(host, "p50_us"),
        tail=_over_domains(host, "p99_us"),
        answers=_answers((place / "history" / host.name).glob("*.parquet")),
        seconds=run.seconds,
    )


def _over_domains(host: HostRun, name: str) -> dict[str, float]:
    """Return field ``name`` of each operation's latency: the geometric mean over all domains."""
    by_op: defaultdict[str, list[Latency]] = defaultdict(list)
    for latency in host.latencies:
        by_op[latency.op].append(latency)
    return {
        op: math.exp(statistics.fmean(math.log(max(getattr(one, name), 0.01)) for one in latencies))
        for op, latencies in by_op.items()
    }


def _answers(histories: Iterable[Path]) -> dict[str, int]:
    """Return how often Xen gave each answer to a raw hypercall: an error by name, or "ok"."""
    counts: Counter[str] = Counter()
    for path in histories:
        try:
            for piece in Reader(path).pieces():
                raw = piece.via == Via.RAW  # a hypercall: the answer is Xen's, not Linux's
                pairs = np.stack([piece.op[raw].astype(np.int64), piece.result[raw]])
                for (op, result), count in zip(*_counted(pairs), strict=True):
                    said = "ok" if result >= 0 else _name(int(result))
                    counts[f"{Op(int(op)).name.lower()}: {said}"] += int(count)
        except ConfigError as error:
            raise LabError(error.what, where=error.where) from error
    return dict(counts)


def _counted(pairs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each of ``pairs`` (a column each) once, and how often it is there."""
    found, counts = np.unique(pairs, axis=1, return_counts=True)
    return found.T, counts


def _name(result: int) -> str:
    return _ERRNO.get(result, f"error {-result}")
