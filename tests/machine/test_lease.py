# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases of servers, between real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.machine import lease
from harness.verdict import LabError

pytestmark = pytest.mark.slow

_HOLD = """
import sys, time
from harness.machine.lease import lease
with lease("rack-1", print, wait=0):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(lease.ENVIRONMENT, str(tmp_path))
    return tmp_path


@contextmanager
def other_process() -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", _HOLD]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_two_runs_never_share_a_server() -> None:
    notices: list[str] = []
    with other_process() as child:
        holder = lease.holder("rack-1")
        assert holder is not None and holder.pid == child.pid
        with (
            pytest.raises(
                LabError,
                match=f"after 0 s: process {child.pid} of .* holds it",
            ),
            lease.lease("rack-1", notices.append, wait=0.2),
        ):
            pass
        with lease.lease("rack-2", notices.append, wait=0):
            pass
    assert notices


def test_a_run_waits_for_the_server() -> None:
    with other_process() as child:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
        with lease.lease("rack-1", lambda _: None, wait=5):
            assert lease.holder("rack-1") is not None
    assert lease.holder("rack-1") is None


def test_what_a_killed_run_held_is_free_at_once() -> None:
    with other_process() as child:
        child.kill()
        child.wait()
        assert lease.holder("rack-1") is None
        with lease.lease("rack-1", lambda _: None, wait=0):
            pass


def test_a_lease_of_another_machine_expires(leases: Path) -> None:
    far = lease.Lease("t", "elsewhere", 1, 0.0, time.time() + 1.5)
    (leases / "rack-1.json").write_text(json.dumps(asdict(far)))
    assert lease.holder("rack-1") == far
    with lease.lease("rack-1", lambda _: None, wait=10):
        assert lease.holder("rack-1") != far
    (leases / "rack-1.json").write_text(json.dumps(asdict(replace(far, until=time.time() - 1))))
    assert lease.holder("rack-1") is None


def test_a_lease_lasts_longer_than_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_LIFE", 0.6)
    monkeypatch.setattr(lease, "_RENEW", 0.1)
    with lease.lease("rack-1", lambda _: None, wait=0):
        time.sleep(1.2)
        assert lease.holder("rack-1") is not None
