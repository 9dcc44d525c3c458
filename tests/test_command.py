# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs, really run: what they print, how they fail, and that nothing outlives them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.command import CommandFailed, child, run, which
from harness.machine.wires.program import Program
from harness.verdict import LabError, Verdict


def test_both_outputs_come_back_in_order() -> None:
    assert run(["sh", "-c", "echo one; echo two >&2; echo three"]) == "one\ntwo\nthree\n"


def test_output_that_is_not_utf8_does_not_hurt() -> None:
    assert run(["printf", r"\377x"]) == "\ufffdx"


def test_input_environment_and_directory_reach_the_program(tmp_path: Path) -> None:
    said = run(["sh", "-c", "cat; echo $COLOUR; pwd"], stdin=b"in\n", env={"COLOUR": "red"})
    assert said.splitlines()[:2] == ["in", "red"]
    assert run(["pwd"], cwd=tmp_path).strip() == str(tmp_path)


def test_a_program_does_not_read_our_terminal() -> None:
    assert run(["cat"], timeout=5) == ""


def test_failure_names_program_code_and_last_line() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo early; echo 'the reason'; exit 7"])
    assert caught.value.what.endswith("exited 7: the reason")
    assert caught.value.output == "early\nthe reason\n"
    assert caught.value.verdict is Verdict.MISS


def test_death_by_signal_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"was killed by signal 9 \(Killed\)"):
        run(["sh", "-c", "kill -9 $$"])


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="cannot start /no/such: No such file"):
        run(["/no/such"])


def test_deadline_kills_the_whole_group_and_keeps_what_was_said(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"did not end within 0\.5 s") as caught:
        run(["sh", "-c", f"echo so far; {_nest(tmp_path)}"], timeout=0.5)
    assert time.monotonic() - began < 5
    assert caught.value.output == "so far\n"
    assert _gone(_pid(tmp_path))


def test_deadline_holds_when_the_child_is_gone_and_a_grandchild_keeps_the_pipe(
    tmp_path: Path,
) -> None:
    with pytest.raises(CommandFailed, match="did not end"):
        run(["sh", "-c", f"{_SLEEPER} & echo $! > {tmp_path}/pid; exit 0"], timeout=0.5)
    assert _gone(_pid(tmp_path))


def test_nothing_is_left_behind_by_a_program_that_succeeds(tmp_path: Path) -> None:
    run(["sh", "-c", f"{_SLEEPER} >/dev/null 2>&1 & echo $! > {tmp_path}/pid"])
    assert _gone(_pid(tmp_path))


def test_log_grows_while_the_program_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    go_on = tmp_path / "go"
    os.mkfifo(go_on)
    thread = threading.Thread(
        target=run, args=(["sh", "-c", f"echo first; cat {go_on}"],), kwargs={"log": log}
    )
    thread.start()
    try:
        _wait(lambda: log.exists() and log.read_text() == "first\n")
    finally:
        go_on.write_text("last\n")
        thread.join(10)
    assert log.read_text() == "first\nlast\n"


def test_failure_with_a_log_points_at_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo oops; exit 1"], log=log)
    assert (caught.value.output, caught.value.hint) == ("oops\n", f"see {log}")


def test_a_log_that_cannot_be_written_is_the_labs_fault(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot write the log: No such file") as caught:
        run(["true"], log=tmp_path / "no" / "log")
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killing_the_harness_kills_what_its_programs_started(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Also what *they* started: make's compilers, not only make."""
    code = f"from harness.command import run; run(['sh', '-c', {_nest(tmp_path)!r}])"
    harness = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    _wait(lambda: (tmp_path / "pid").exists() and _pid(tmp_path) > 0)
    sleeper = _pid(tmp_path)
    assert psutil.pid_exists(sleeper)
    harness.send_signal(how)
    harness.wait(10)
    assert _gone(sleeper)


def test_which_finds_what_root_has_and_names_the_package_otherwise() -> None:
    assert Path(which("sh", "dash")).name == "sh"
    with pytest.raises(LabError, match="run: sudo apt-get install no-such-package"):
        which("no-such-program", "no-such-package")


def test_which_looks_where_an_ordinary_users_path_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert which("ldconfig", "libc-bin").endswith("sbin/ldconfig")


_SLEEPER = "sleep 300"


def _nest(folder: Path) -> str:
    """Return a shell command whose grandchild sleeps, its pid in ``folder``/pid."""
    return f"sh -c '{_SLEEPER} & echo $! > {folder}/pid; wait'; true"


def _pid(folder: Path) -> int:
    return int((folder / "pid").read_text() or "0")


def _gone(pid: int) -> bool:
    """Wait until ``pid`` has ended (a zombie has: whoever inherited it will reap it)."""

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return _wait(ended)


def _wait(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return True


_REUSED = """
import os, subprocess, sys
from pathlib import Path
from harness import command

with command.child(["true"], stdout=subprocess.DEVNULL) as child:
    child.wait()  # reaped: from now on its number is free
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(child.pid - 1))
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert other.pid == child.pid, (other.pid, child.pid)
try:
    print(other.wait(1))
except subprocess.TimeoutExpired:
    print("lives")
    other.kill()
"""


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root, unshare")
def test_a_group_that_got_the_number_of_one_that_ended_is_not_killed() -> None:
    """Trust: killpg after the leader was reaped may hit whoever got its number since."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    for _ in range(5):
        ran = subprocess.run(
            [*words, sys.executable, "-c", _REUSED], capture_output=True, text=True, timeout=60
        )
        if "AssertionError" not in ran.stderr:  # somebody else got the number
            break
    assert ran.stdout == "lives\n", ran.stderr


def test_what_a_reaped_leader_left_is_killed_all_the_same(tmp_path: Path) -> None:
    line = f"{_SLEEPER} & echo $! > {tmp_path}/pid"
    with child(["sh", "-c", line], stdout=subprocess.DEVNULL) as leader:
        leader.wait()
        assert psutil.pid_exists(_pid(tmp_path))
    assert _gone(_pid(tmp_path))


@pytest.mark.parametrize("word", ["a\0b", "a\ud800b"])
def test_a_word_that_no_program_can_be_given_is_told(word: str) -> None:
    """Trust: it was a traceback.  A forked console program even went on as a second harness."""
    with pytest.raises(CommandFailed, match=r"cannot start echo: .* cannot be passed on"):
        run(["echo", word])
    with pytest.raises(CommandFailed, match=r"cannot start echo: .* cannot be passed on"):
        run(["echo"], env={"NAME": word})
    with pytest.raises(CommandFailed) as secret:
        run(["echo"], env={"PASSWORD": word})
    assert "$PASSWORD" in str(secret.value) and repr(word)[1:-1] not in str(secret.value)
    ours = os.getpid()
    with pytest.raises(LabError, match=r"cannot start echo: .* cannot be passed on"):
        Program(["echo", word])
    assert os.getpid() == ours
