# SPDX-License-Identifier: GPL-2.0-or-later
"""Places of a real coordinator of labgrid, where it is installed: who has one, and who switches."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config.physical import LabgridPower
from harness.machine.power.labgrid import Labgrid, places
from harness.machine.tenure import LeaseLost
from harness.verdict import LabError


def _program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or ""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _program("labgrid-coordinator"), reason="labgrid is not installed"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabgridPower]:
    for name in ("LG_USERNAME", "LG_HOSTNAME"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = [_program("labgrid-coordinator"), "-l", address]
    with (tmp_path / "log").open("wb") as log:
        coordinator = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log)
    try:
        section = LabgridPower(driver="labgrid", coordinator=address, place="altra")
        deadline = time.monotonic() + 60
        while client(section, "create").returncode != 0:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield section
    finally:
        coordinator.kill()
        coordinator.wait()


def client(section: LabgridPower, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    where = [_program("labgrid-client"), "-x", section.coordinator, "-p", section.place]
    return subprocess.run(
        [*where, *words], capture_output=True, text=True, env={**os.environ, **env}, timeout=60
    )


OTHER = {"LG_HOSTNAME": "lab-2", "LG_USERNAME": "evtchn-harness"}


def owner(section: LabgridPower) -> str:
    shown = client(section, "show").stdout
    return next(line for line in shown.splitlines() if "acquired:" in line).split(":")[1].strip()


def test_one_place_has_one_run(place: LabgridPower) -> None:
    with places([place]):
        assert owner(place) == f"{socket.gethostname()}/evtchn-harness"
        assert client(place, "acquire", **OTHER).returncode != 0
        with pytest.raises(LabError, match="already acquired place altra"), places([place]):
            pass
    assert owner(place) == "None"


def test_who_lost_the_place_neither_switches_it_nor_gives_it_back(place: LabgridPower) -> None:
    """Trust, 2: the end of the old run released the place of the new one."""
    with places([place]):
        assert client(place, "release", LG_USERNAME="evtchn-harness").returncode == 0
        assert client(place, "acquire", **OTHER).returncode == 0
        for order in (Labgrid(place).off, Labgrid(place).on, Labgrid(place).state):
            with pytest.raises(LabError, match="not acquired on this computer, acquired on lab-2"):
                order()
    assert owner(place) == "lab-2/evtchn-harness"


def test_a_run_that_lost_its_lease_does_not_release_the_place(place: LabgridPower) -> None:
    """A next run on the same computer has the same name at the coordinator."""

    def lost() -> None:
        raise LeaseLost("process 7 of lab-1 has taken it", "altra")

    with places([place], lost):
        pass
    assert owner(place) == f"{socket.gethostname()}/evtchn-harness"


def test_a_place_is_no_option(place: LabgridPower) -> None:
    evil = place.model_copy(update={"place": "--help"})
    with pytest.raises(LabError, match="place pattern --help matches nothing"), places([evil]):
        pass
