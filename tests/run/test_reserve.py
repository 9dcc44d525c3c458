# SPDX-License-Identifier: GPL-2.0-or-later
"""Reserving a server: what is raised once its lease is lost; what `lab check` says of a lease."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.evidence import Crash
from harness.machine import lease
from harness.machine.tenure import LeaseLost
from harness.run import lab, machines
from harness.verdict import HarnessError, HypervisorError, LabError
from tests.machine.toy_server import ToyServer

pytestmark = pytest.mark.slow

PANIC = HypervisorError(Crash(what="panic", stream="xen", text="Panic on CPU 0:"))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyServer]:
    monkeypatch.setenv(lease.ENVIRONMENT, str(tmp_path / "leases"))
    (tmp_path / "toy").mkdir()
    server = ToyServer(tmp_path / "toy")
    yield server
    server.close()


@pytest.mark.parametrize("error", [PANIC, LabError("the connection is lost")])
def test_what_is_seen_without_the_lease_is_not_told(
    toy: ToyServer, tmp_path: Path, error: HarnessError
) -> None:
    """Trust, 2: a panic of the next run's Xen was a FAIL of the Xen under test."""
    with pytest.raises(type(error)), machines.reserve(toy.host(), print):
        raise error
    with pytest.raises(LeaseLost), machines.reserve(toy.host(), print) as held:
        assert held is not None
        (tmp_path / "leases/toy@77.json").write_text("of another run")
        with pytest.raises(LeaseLost):
            held.confirm()
        raise error


def test_a_check_of_a_server_that_is_in_use_leaves_its_console_alone(toy: ToyServer) -> None:
    with lease.lease("toy", print, wait=0):
        found = lab.check(toy.host())
    assert [(probe.part, probe.ok) for probe in found] == [
        ("lease", True),
        ("power command", True),
        ("default system", True),
    ]
    assert found[0].detail == f"held by process {os.getpid()} of {socket.gethostname()}"
    assert toy.lines == 0


def test_a_lease_that_cannot_be_read_is_a_line_of_the_check(toy: ToyServer, tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    os.mkfifo(tmp_path / "leases/toy@3.json")
    found = lab.check(toy.host())
    assert not found[0].ok and "this is not a lease" in found[0].detail
    assert found[1].ok and toy.lines == 0
