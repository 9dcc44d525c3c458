# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks on a booted host: ``restore`` (time of a restore and of a boot), ``recording``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.config.host import QemuHost
from harness.config.options import XenOptions
from harness.progress import Progress
from harness.results import directory
from harness.run.plan import Plan, open_hypervisor
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.up import session

_RESTORES = 20
_BENCH_SECONDS = 4.0  # for each figure


def restore(host: QemuHost) -> dict[str, float]:
    """Return the seconds from a restore until every agent has answered (median and extremes of 20),
    and the seconds from power-on until every agent has answered."""
    with _booted(_plan(host, snapshot=True)) as (recorder, live):
        booted = sum(recorder.seconds(host.name, phase) for phase in ("boot", "domains", "agents"))
        seconds = []
        for number in range(_RESTORES):
            dirty = live.agents["dom0"].raw
            dirty.close(dirty.alloc_unbound())
            began = time.monotonic()
            live.restore()
            seconds.append(time.monotonic() - began)
            recorder.progress.update(f"{number + 1} of {_RESTORES} restores")
    return {
        "restore_seconds": statistics.median(seconds),
        "restore_seconds_min": min(seconds),
        "restore_seconds_max": max(seconds),
        "boot_seconds": booted,
    }


def recording(host: QemuHost) -> dict[str, float]:
    """Return for each domain: the rate of sends with recording over the rate without (1.0 means
    that recording costs nothing), and how many bytes of records per second we collect."""
    metrics: dict[str, float] = {}
    with _booted(_plan(host)) as (_, live):
        for name, agent in live.agents.items():
            cost = agent.recording_cost(_BENCH_SECONDS)
            metrics[f"recorded_over_bare_{name}"] = cost.ratio
            metrics[f"recorded_sends_per_second_{name}"] = cost.recorded_per_s
            began, size = time.monotonic(), 0
            while time.monotonic() - began < _BENCH_SECONDS:
                size += agent.collect(0).records.nbytes
            metrics[f"collected_bytes_per_second_{name}"] = size / (time.monotonic() - began)
    return metrics


def _plan(host: QemuHost, *, snapshot: bool = False) -> Plan:
    xen = open_hypervisor(XenOptions())
    return Plan(hosts=(host,), hypervisor=xen, snapshot=snapshot)


@contextmanager
def _booted(plan: Plan) -> Iterator[tuple[Recorder, Session]]:
    recorder = Recorder(plan, directory.create(), Progress())
    try:
        with session(plan, plan.hosts[0], recorder) as live:
            yield recorder, live
    finally:
        recorder.close()
