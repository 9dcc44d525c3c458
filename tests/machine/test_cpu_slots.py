# SPDX-License-Identifier: GPL-2.0-or-later
"""Places for emulated machines: one waits for another, and nobody for the dead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cache
from harness.machine import cpu_slots
from harness.verdict import LabError

pytestmark = pytest.mark.slow

HOLD = """
import time
from harness.machine.cpu_slots import slot
with slot(10**6, print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


def test_as_many_as_there_are_cpus_for() -> None:
    assert [cpu_slots.slots(2, ours) for ours in (1, 2, 3, 4, 64)] == [1, 1, 1, 2, 32]


def test_the_second_waits_until_the_first_is_dead() -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    waited: list[str] = []

    def notice(text: str) -> None:
        waited.append(text)
        first.kill()
        first.wait()

    with cpu_slots.slot(10**6, notice):
        assert len(waited) == 1


def test_one_after_the_other_needs_no_waiting() -> None:
    for _ in range(2):
        with cpu_slots.slot(10**6, lambda text: pytest.fail(text)):
            pass


LOOP = """
import time
from harness.machine.cpu_slots import slot
for number in range(2000):
    with slot(10**6, lambda text: None):
        print(number, flush=True)
        time.sleep(0.02)
"""


def test_a_loop_of_runs_lets_others_in_at_once() -> None:
    loop = subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True)
    try:
        assert loop.stdout is not None and loop.stdout.readline() == "0\n"
        with cpu_slots.slot(10**6, lambda text: None):
            loop.kill()
            last = loop.stdout.read().split()[-1:] or ["0"]
        assert int(last[0]) < 30, "it went on while we waited"
    finally:
        loop.kill()
        loop.wait()


TAKE = "from harness.machine.cpu_slots import slot\nwith slot(10**6, print): print('held')"


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, setpriv")
def test_root_first_and_a_user_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust, 2: both take turns at the same slots; the user was refused without a hint."""
    home = Path("/var/tmp") / f"slots-{os.getpid()}"
    monkeypatch.setenv(cache.ENVIRONMENT, str(home))
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    words = [*as_nobody, sys.executable, "-c", TAKE]
    try:
        with cpu_slots.slot(10**6, lambda text: None):
            user = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            assert user.stdout is not None
            assert user.stdout.readline().startswith("waiting until another run ends")
        assert user.communicate(timeout=60)[0].endswith("held\n")
        assert user.returncode == 0
        (home / "slots").chmod(0o700)
        refused = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert "cannot hold a CPU slot for the machine: Permission denied" in refused.stderr
        assert f"set {cache.ENVIRONMENT}" in refused.stderr
    finally:
        shutil.rmtree(home)


@pytest.mark.parametrize("kind", ["fifo", "symlink", "folder"])
@pytest.mark.parametrize("name", ["queue.lock", "0.lock"])
def test_what_is_no_lock_file_is_refused_with_the_reason(
    tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / "cache/slots" / name
    path.parent.mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with (
        pytest.raises(LabError, match=rf"{name}: this is no lock file.*remove it"),
        cpu_slots.slot(10**6, lambda text: None),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()
