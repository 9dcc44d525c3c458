# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest's own code on this computer: what it answers, byte for byte."""

from __future__ import annotations

import subprocess
from pathlib import Path
from platform import machine

import pytest

from harness.agent.build import BARE_SOURCES
from harness.command import run, which

_UNITS = ("events.c", "look.c", "memory.c", "ops.c", "protocol.c")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("bare") / "answers"
    gcc = which("gcc", "gcc libc6-dev")
    flags = ["-std=c11", "-fno-builtin", "-Wall", "-Wextra", "-Werror", f"-I{BARE_SOURCES}"]
    units = [BARE_SOURCES / name for name in _UNITS]
    run([gcc, *flags, "-o", program, Path(__file__).with_name("bare_answers.c"), *units])
    return program


def _answers(guest: Path, *commands: str) -> list[str]:
    said = "".join(f"{command}\n" for command in commands)
    ran = subprocess.run([guest], input=said, capture_output=True, text=True, timeout=10)
    assert ran.returncode == 0
    return ran.stdout.splitlines()


_TIMES = "call=1000000 ret=1000000 cpu=0"


def test_a_message_of_many_operations_is_answered_in_its_order(guest: Path) -> None:
    assert _answers(
        guest,
        "bind_ipi vcpu=1",
        "look ports=5 status=5",
        "mask port=5",
        "send port=5",
        "look ports=5,64",
        "send port=6",
        "clear_2l",
        "look",
    ) == [
        f"ok result=5 {_TIMES}",
        "ok bits=0,0,0 upcall=0,0 selectors=0,0 ready=0,0 status=0,5,1,0,0 result=0 " + _TIMES,
        "ok result=0 call=0 ret=0 cpu=0",
        f"ok result=0 {_TIMES}",
        "ok bits=1,1,0,0,0,0 upcall=0,1 selectors=0,1 ready=0,0 status= result=0 "
        "call=0 ret=0 cpu=0",
        f"err errno=22 what=send {_TIMES}",
        "ok result=0 call=0 ret=0 cpu=0",
        "ok bits= upcall=0,0 selectors=0,0 ready=0,0 status= result=0 call=0 ret=0 cpu=0",
    ]


def test_a_port_that_xen_does_not_tell_of_has_its_error_number(guest: Path) -> None:
    (answer,) = _answers(guest, "look ports=6 status=6,7")
    assert " status=13,0,0,0,0,0,0,0,0,0 result=0 " in answer


def test_it_looks_at_the_first_32_ports(guest: Path) -> None:
    ports = ",".join(str(port) for port in range(40))
    (answer,) = _answers(guest, f"look ports={ports} status={ports}")
    words = dict(word.partition("=")[::2] for word in answer.split()[1:])
    assert words["bits"].count(",") == 3 * 32 - 1
    assert words["status"].count(",") == 5 * 32 - 1


@pytest.mark.parametrize(
    ("given", "took", "woken"),
    [("", 8_000_000, 1), (" give_up_us=4000", 4_000_000, 1), (" give_up_us=60", 60_000, 1)],
)
def test_a_poll_that_sleeps_lasts_as_long_as_it_is_told(
    guest: Path, given: str, took: int, woken: int
) -> None:
    (answer,) = _answers(guest, f"poll ports=5 timeout=0 times=1{given}")
    assert f"ok took={took} woken={woken} result=0 " in answer


def test_a_poll_of_a_pending_port_returns_at_once(guest: Path) -> None:
    poll = "poll ports=5 timeout=0 times=2 give_up_us=4000"
    *_, answer = _answers(guest, "bind_ipi vcpu=1", "send port=5", poll)
    assert "ok took=40000,40000 woken=0,0 result=0 " in answer


def test_a_word_that_is_no_number_is_an_error_and_the_next_command_is_not(guest: Path) -> None:
    bad, good = _answers(guest, "look ports=x", "look")
    assert bad.startswith("err errno=22 what=argument-missing") and good.startswith("ok bits= ")


@pytest.mark.skipif(machine() != "x86_64", reason="Xen tells its time on x86-64")
def test_xens_time_never_jumps_where_a_cpu_counts_behind(tmp_path: Path) -> None:
    """vCPU 1 reads what Xen has written for vCPU 0: a difference below 0 is no huge one."""
    gcc = which("gcc", "gcc libc6-dev")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{BARE_SOURCES}"]
    units = [Path(__file__).with_name("xen_time.c"), BARE_SOURCES / "cpu-x86_64.c"]
    run([gcc, *flags, "-o", tmp_path / "xen_time", *units])
    ran = subprocess.run([tmp_path / "xen_time"], capture_output=True, text=True, timeout=10)
    ahead, behind = map(int, ran.stdout.split())
    assert ran.returncode == 0 and ahead == 5_000_000_000
    assert 5_001_000_000 <= behind < 6_000_000_000
