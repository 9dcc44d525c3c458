# SPDX-License-Identifier: GPL-2.0-or-later
"""The outcome of a run, as the store keeps it: verdict, tests, and the figures to compare."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.nightly.schema import Cause
from harness.results import records, store
from harness.results.directory import is_below
from harness.results.records import Latency
from harness.verdict import ConfigError, HarnessError, Verdict

THROUGHPUT = "operations_per_second"  # the only figure of which more is better
# Fewer operations than this give a percentile that is mostly chance.
_NO_TEST = "no test ran: see the terminal"
_ENOUGH_P50 = 30
_ENOUGH_P99 = 1000


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of one run on one host.  Text is "" if the run ended before it was known."""

    verdict: Verdict
    message: str = ""  # one line: why not PASS
    seconds: float = 0.0
    arch: str = ""
    flavour: str = ""
    version: str = ""
    source: str = ""
    build: str = ""
    seed: int | None = None
    operations: int = 0
    tests: tuple[records.Test, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    symptoms: tuple[store.Symptom, ...] = ()
    cause: Cause = Cause.UNKNOWN


def read_outcome(path: Path, error: HarnessError | None = None) -> RunOutcome:
    """Return the outcome of the run in directory ``path``.

    ``error`` is what the runner raised; it counts if the run's journal does not say why it
    failed.  A run that did not end is MISS, unless its journal has a worse verdict.
    """
    try:
        run = store.load(path)
    except ConfigError:
        if error is not None:
            return RunOutcome(error.verdict, str(error))
        return RunOutcome(Verdict.ERROR, "the run left no journal")
    host = next(iter(run.hosts), None)
    if host is None:
        return RunOutcome(run.verdict, str(error or run.message), run.seconds)
    message = host.message if run.state == "finished" else run.message
    if run.verdict is Verdict.MISS and error is not None:
        message = str(error)
    return RunOutcome(
        verdict=run.verdict,
        message=message or run.message or _unread(run) or ("" if host.tests else _NO_TEST),
        seconds=run.seconds,
        arch=host.arch,
        flavour=host.flavour,
        version=host.xen_version,
        source=host.source,
        build=host.build_id,
        seed=run.seed,
        operations=host.operations,
        tests=tuple(_with_own_files(test) for test in host.tests),
        metrics=metrics(host.samples, host.latencies),
        symptoms=host.symptoms,
    )


def _with_own_files(test: records.Test) -> records.Test:
    """Return ``test`` without artifacts outside of its run: pages and KCIDB link them."""
    return replace(test, artifacts=tuple(name for name in test.artifacts if is_below(name)))


def _unread(run: store.Run) -> str:
    """Return what of ``run`` could not be read, so that its result is not the whole truth."""
    more = f" (and {len(run.problems) - 1} more)" if len(run.problems) > 1 else ""
    return f"{run.problems[0]}{more}" if run.problems else ""


def is_finished(path: Path) -> bool:
    """Return whether the run in directory ``path`` has ended by itself."""
    try:
        return store.load(path).state == "finished"
    except ConfigError:
        return False


def metrics(samples: Sequence[records.Sample], latencies: Iterable[Latency]) -> dict[str, float]:
    """Return the figures of a run by name.

    ``operations_per_second`` is the median sample; ``OP.DOMAIN.p50_us`` and ``OP.DOMAIN.p99_us``
    are latencies, with DOMAIN ``dom0`` or, for all domUs together, ``domu``.
    """
    found = {}
    if samples:
        found[THROUGHPUT] = statistics.median(s.operations_per_second for s in samples)
    groups: dict[str, list[Latency]] = {}
    for latency in latencies:
        domain = latency.domain.rstrip("0123456789") if latency.domain != "dom0" else "dom0"
        groups.setdefault(f"{latency.op}.{domain}", []).append(latency)
    for name, group in groups.items():
        count = sum(latency.count for latency in group)
        if count >= _ENOUGH_P50:
            found[f"{name}.p50_us"] = _mean([(g.count, g.p50_us) for g in group])
        if count >= _ENOUGH_P99:
            found[f"{name}.p99_us"] = _mean([(g.count, g.p99_us) for g in group])
    return {name: value for name, value in found.items() if value > 0}


def _mean(weighted: Sequence[tuple[int, float]]) -> float:
    """Return the weighted geometric mean of (weight, value); 0 if a value is 0."""
    if any(value <= 0 for _, value in weighted):
        return 0.0
    total = sum(weight for weight, _ in weighted)
    return math.exp(sum(weight * math.log(value) for weight, value in weighted) / total)
