# SPDX-License-Identifier: GPL-2.0-or-later
"""Real runs: the command line as a user types it, its JSON, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.config.releases import DEFAULT_RELEASE
from harness.hypervisor import source
from harness.verdict import LabError

ROOT = Path(__file__).resolve().parents[2]
HARNESS = [sys.executable, "-m", "harness.cli"]
XEN_GIT = "XEN_GIT"  # names a repository of upstream Xen
RUN_SECONDS = 900  # a cold cache on two cores builds two hypervisors and two images


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document


def start(*words: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start ``evtchn-harness WORDS``."""
    return subprocess.Popen(
        [*HARNESS, *words],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def harness(*words: str, timeout: float = RUN_SECONDS) -> Ran:
    """Run ``evtchn-harness WORDS`` to its end."""
    child = start(*words)
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.terminate()
        stdout, stderr = child.communicate(timeout=60)
        pytest.fail(f"{words} did not end within {timeout:.0f} s:\n{stderr}")
    return Ran(child.returncode, stdout, stderr)


def from_apt(release: str) -> source.Source:
    """Return the distribution's source; skip the test where the archive has let go of it."""
    try:
        return source.from_apt(release)
    except LabError as error:
        if release == DEFAULT_RELEASE:
            raise
        pytest.skip(str(error))


def repository() -> str:
    """Return the repository of upstream Xen; skip the test without one."""
    found = os.environ.get(XEN_GIT, "")
    if not found:
        pytest.skip(f"{XEN_GIT} names no repository of upstream Xen")
    return found


def machines(host: str) -> list[int]:
    """Return the process ids of QEMUs that run ``host`` (any run's)."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if (process.info["name"] or "").startswith("qemu-system") and f"guest={host}-" in words:
            found.append(process.pid)
    return found


def scratch_directories() -> set[Path]:
    """Return the scratch directories of runs of ours."""
    return set(Path(tempfile.gettempdir()).glob(f"evtchn-harness-{os.getuid()}-*"))
