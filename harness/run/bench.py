"""``bench restore``: how long a pristine machine takes, restored and booted."""

from __future__ import annotations

import statistics
import time

from harness.config.host import QemuHost
from harness.progress import Progress
from harness.results import directory
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.run.session import session

_RESTORES = 20


def restore(host: QemuHost) -> dict[str, float]:
    """Return the seconds from a restore to every agent's first answer, median and extremes of
    20, next to those of the boot it stands for (power-on to the agents' first answers)."""
    run = directory.create()
    recorder = Recorder(Plan((host,)), run, Progress())
    with session(Plan((host,), snapshot=True), host, recorder) as live:
        booted = sum(recorder.seconds(host.name, phase) for phase in ("boot", "domains", "agents"))
        seconds = []
        for number in range(_RESTORES):
            dirty = live.agents["dom0"].raw
            dirty.close(dirty.alloc_unbound())
            began = time.monotonic()
            live.restore()
            seconds.append(time.monotonic() - began)
            recorder.progress.update(f"{number + 1} of {_RESTORES} restores")
    recorder.close()
    return {
        "restore_seconds": statistics.median(seconds),
        "restore_seconds_min": min(seconds),
        "restore_seconds_max": max(seconds),
        "boot_seconds": booted,
    }
