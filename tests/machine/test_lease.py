# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases of servers, between real processes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.machine import holder, lease, tenure
from harness.machine.lease_files import LeaseFiles
from harness.verdict import LabError, Verdict

pytestmark = pytest.mark.slow

_HOLD = """
import sys
from harness.machine.lease import lease
with lease("rack-1", print, wait=0):
    print("held", flush=True)
    sys.stdin.read()
"""
# With the seconds of a lease divided by twenty; says what becomes of the lease.
_SHORT = """
import sys, time
from harness.machine import lease, tenure
tenure.LIFE, tenure.HELD, lease.RENEW, lease._PAUSE, lease._RETRY = 3.0, 2.25, 0.75, 0.05, 0.1
"""
_HOLD_SHORT = f"""{_SHORT}
with lease.lease("rack-1", print, wait=0) as held:
    held.when_lost(lambda: print("called", flush=True))
    print("held", flush=True)
    while True:
        time.sleep(0.05)
        try:
            held.check()
        except tenure.LeaseLost as error:
            print(error, flush=True)
            sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "leases"
    monkeypatch.setenv(lease.ENVIRONMENT, str(folder))
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenure, "LIFE", 3.0)
    monkeypatch.setattr(tenure, "HELD", 2.25)
    monkeypatch.setattr(lease, "RENEW", 0.75)
    monkeypatch.setattr(lease, "_PAUSE", 0.05)
    monkeypatch.setattr(lease, "_RETRY", 0.1)


@contextmanager
def other_process(
    script: str = _HOLD, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    words = [*before, sys.executable, "-c", script]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def quiet(_: str) -> None:
    """Take no notice."""


def name_of(pid: int) -> str:
    return f"process {pid} of {socket.gethostname()}"


def written() -> Path:
    """Return the file of the lease."""
    (path,) = lease.folder().iterdir()
    return path


def test_two_runs_never_share_a_server() -> None:
    notices: list[str] = []
    with other_process() as child:
        assert lease.holder("rack-1") == name_of(child.pid)
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
        with lease.lease("rack-1", quiet, wait=5):
            assert lease.holder("rack-1") == name_of(os.getpid())
    assert lease.holder("rack-1") == ""


def test_what_a_killed_run_held_is_free_at_once() -> None:
    with other_process() as child:
        child.kill()
        child.wait()
        assert lease.holder("rack-1") == ""
        with lease.lease("rack-1", quiet, wait=0):
            pass


def test_what_a_killed_run_held_is_free_although_nobody_has_reaped_it() -> None:
    with other_process() as child:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert lease.holder("rack-1") == ""


def test_a_process_with_the_number_of_a_dead_one_does_not_hold_its_lease(leases: Path) -> None:
    mine = holder.this_process()
    claim = tenure.Claim(LeaseFiles(leases, "rack-1"), "rack-1")
    assert claim.take() is not None
    assert lease.holder("rack-1") == name_of(mine.pid)
    path = written()
    path.write_text(path.read_text().replace(str(mine.ticks), str(mine.ticks - 1)))
    assert lease.holder("rack-1") == ""


# -- Trust, 2: each of these attacks got, or kept, a second run in -----------------------------


@pytest.mark.parametrize("seconds", [-1.0, 1.0, 86400.0])
def test_a_correction_of_the_clock_takes_no_server_away(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What /proc/stat says of the time of boot changes with the clock, by NTP for instance."""
    import psutil

    with other_process() as child:
        pslinux = psutil._pslinux
        moved = pslinux.boot_time() + seconds
        monkeypatch.setattr(pslinux, "BOOT_TIME", moved, raising=False)
        monkeypatch.setattr(pslinux, "boot_time", lambda: moved)
        assert lease.holder("rack-1") == name_of(child.pid)
        with (
            pytest.raises(LabError, match="still uses the server"),
            lease.lease("rack-1", quiet, wait=0),
        ):
            pass


@pytest.mark.parametrize("seconds", [-86400.0, 61.0, 86400.0])
def test_a_controller_whose_clock_is_wrong_steals_nothing(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = time.time
    with other_process() as child:
        monkeypatch.setattr(time, "time", lambda: wall() + seconds)
        assert lease.holder("rack-1") == name_of(child.pid)
        with (
            pytest.raises(LabError, match="still uses the server"),
            lease.lease("rack-1", quiet, wait=0),
        ):
            pass


def test_a_dead_controller_a_day_ahead_blocks_for_a_life(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = "import sys, time\nwall = time.time\ntime.time = lambda: wall() + 86400"
    with other_process(_HOLD.replace("import sys", ahead)) as child:
        child.kill()
        child.wait()
    monkeypatch.setattr(holder, "_boot", lambda: "another-boot-id")
    began = time.monotonic()
    with lease.lease("rack-1", quiet, wait=0):
        assert 3.0 <= time.monotonic() - began < 6.0


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root, unshare")
@pytest.mark.parametrize("proc", ["--mount-proc", "--kill-child"])
def test_another_pid_namespace_with_the_same_name_steals_nothing(proc: str) -> None:
    """A container with the controller's host name; with a /proc of its own, or with ours."""
    take = (
        f"{_SHORT}\nprint(lease.holder('rack-1'))\n"
        "with lease.lease('rack-1', lambda _: None, wait=0): print('taken')"
    )
    with other_process(_HOLD_SHORT) as child:
        words = ["unshare", "--pid", "--fork", proc, sys.executable, "-c", take]
        tried = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert "taken" not in tried.stdout
        assert name_of(child.pid) in tried.stdout
        assert "still uses the server" in tried.stderr


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root, unshare")
def test_nothing_is_stolen_from_another_pid_namespace(short: None) -> None:
    """There the run is number 1 or 2, which is somebody else here."""
    before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with other_process(_HOLD_SHORT, before):
        assert lease.holder("rack-1") != ""
        with (
            pytest.raises(LabError, match="still uses the server"),
            lease.lease("rack-1", quiet, wait=0),
        ):
            pass


@pytest.mark.usefixtures("short")
def test_a_stopped_run_loses_the_server_and_notices() -> None:
    with other_process(_HOLD_SHORT) as child:
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        began = time.monotonic()
        with lease.lease("rack-1", quiet, wait=0):
            assert 2.0 < time.monotonic() - began < 5.0
            child.send_signal(signal.SIGCONT)
            assert child.stdout is not None
            why = child.stdout.readline() + child.stdout.readline()
        assert "called" in why  # by another thread: it may be in the middle of a line
        assert "rack-1: the lease is lost: it was not renewed for" in why
        assert "stopped or suspended" in why


@pytest.mark.usefixtures("short")
def test_a_run_that_was_suspended_is_out_even_if_nobody_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CLOCK_BOOTTIME goes on while a laptop sleeps, CLOCK_MONOTONIC does not."""
    clock = time.clock_gettime
    with lease.lease("rack-1", quiet, wait=0) as held:
        held.check()
        held.confirm()
        monkeypatch.setattr(
            time, "clock_gettime", lambda which: clock(which) + 100 * (which == time.CLOCK_BOOTTIME)
        )
        for each in (held.check, held.confirm):
            with pytest.raises(tenure.LeaseLost, match=r"not renewed for 10[0-9] s") as raised:
                each()
        assert raised.value.verdict is Verdict.MISS and raised.value.exit_code == 3


@pytest.mark.usefixtures("short")
def test_a_removed_or_changed_lease_is_noticed(leases: Path) -> None:
    changes: list[Callable[[], object]] = [
        lambda: written().unlink(),
        lambda: written().write_text("junk"),
        lambda: shutil.rmtree(leases),
        lambda: (leases / "rack-1@77.json").write_text("junk"),
    ]
    for change in changes:
        shutil.rmtree(leases, ignore_errors=True)
        gone = threading.Event()
        with lease.lease("rack-1", quiet, wait=0) as held:
            held.when_lost(gone.set)
            change()
            assert gone.wait(3)
            with pytest.raises(tenure.LeaseLost, match=r"has taken it|removed or changed"):
                held.check()


@pytest.mark.parametrize("kind", ["fifo", "symlink", "folder"])
def test_what_is_no_file_is_refused_with_the_reason(leases: Path, kind: str) -> None:
    leases.mkdir()
    path = leases / "rack-1@3.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    began = time.monotonic()
    with (
        pytest.raises(LabError, match=r"rack-1@3.json: this is not a lease.*remove it"),
        lease.lease("rack-1", quiet, wait=0),
    ):
        pass
    with pytest.raises(LabError, match="this is not a lease"):
        lease.holder("rack-1")
    assert time.monotonic() - began < 1


def test_a_number_that_cannot_grow_is_refused_with_the_reason(leases: Path) -> None:
    leases.mkdir()
    (leases / f"rack-1@{'9' * 12}.json").write_bytes(b"free\n")
    with pytest.raises(LabError, match="no number left"), lease.lease("rack-1", quiet, wait=0):
        pass


_AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, setpriv")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_root_first_and_a_user_later(mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works where the folder lets both write; else the user is told why not."""
    take = (
        "from harness.machine import lease\n"
        "with lease.lease('rack-1', lambda _: None, wait=0): print('taken')"
    )
    base = Path("/var/tmp") / f"leases-{os.getpid()}"
    monkeypatch.setenv(lease.ENVIRONMENT, str(base))
    base.mkdir()
    base.chmod(mode)
    old = os.umask(0o077)
    try:
        with lease.lease("rack-1", quiet, wait=0):
            held = _as_nobody(take)
            assert "still uses the server" in held.stderr and name_of(os.getpid()) in held.stderr
        later = _as_nobody(take)
        if mode == 0o1777:
            assert later.stdout == "taken\n", later.stderr
        else:
            assert f"{base}/rack-1@2.json: cannot use the leases: Permission denied" in later.stderr
            assert f"must be able to write in {base}" in later.stderr
        with lease.lease("rack-1", quiet, wait=0):  # and root again
            pass
    finally:
        os.umask(old)
        shutil.rmtree(base)


def _as_nobody(script: str) -> subprocess.CompletedProcess[str]:
    words = [*_AS_NOBODY, sys.executable, "-c", script]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/")


@pytest.mark.usefixtures("short")
def test_a_lease_lasts_longer_than_its_life() -> None:
    with lease.lease("rack-1", quiet, wait=0) as held:
        time.sleep(4.0)
        held.check()
        assert lease.holder("rack-1") == name_of(os.getpid())


def test_a_full_disk_is_told_and_blocks_nobody(
    leases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", pwrite)
        with (
            pytest.raises(LabError, match="cannot use the leases: No space left"),
            lease.lease("rack-1", quiet, wait=0),
        ):
            pass
    assert list(leases.iterdir()) == []
    with lease.lease("rack-1", quiet, wait=0):
        pass


@pytest.mark.usefixtures("short")
def test_storage_that_comes_back_in_time_costs_nothing(
    leases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = threading.Event()
    write = os.pwrite

    def pwrite(file: int, body: bytes, at: int) -> int:
        if broken.is_set():
            write(file, b"half of it", at)
            raise OSError(5, "Input/output error")
        return write(file, body, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with lease.lease("rack-1", quiet, wait=0) as held:
        broken.set()
        time.sleep(1.5)
        broken.clear()
        time.sleep(2.0)
        held.check()
        broken.set()
        time.sleep(3.0)
        with pytest.raises(tenure.LeaseLost, match="cannot be written: Input/output error"):
            held.check()
