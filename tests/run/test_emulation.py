# SPDX-License-Identifier: GPL-2.0-or-later
"""A run on QEMU's emulation: what does not go with it, and a process that ends too early."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.agent.wire import AgentLost
from harness.config.host import EMULATION
from harness.config.lab import host, load_lab
from harness.config.options import RunOptions
from harness.hypervisor.qemu import EVENT_CHANNELS, QemuSource
from harness.progress import Progress
from harness.results import directory
from harness.run import emulation
from harness.run.emulation import Emulation
from harness.run.plan import EmulationPlan, plan_of
from harness.run.recorder import Recorder
from harness.verdict import ConfigError, HypervisorError, LabError

# As much of the protocol as a session begins with; then QEMU's assertion fails.
_GREETING = """#!/bin/sh
read -r hello
echo "ok protocol=2 arch=x86_64 domid=1 vcpus=2 tick_hz=1000000000 page=4096 xen=4.17"
read -r operation
"""
_ASSERTS = """
echo "emulated: xen_evtchn.c:1: close_port: Assertion \\`bql_locked()' failed." >&2
kill -ABRT $$
"""
_KILLED = "kill -{signal} $$\n"
_SPINS = "while :; do :; done\n"
_SLEEPS = "exec sleep 60\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory that looks like QEMU's source."""
    file = tmp_path / "qemu" / EVENT_CHANNELS
    file.parent.mkdir(parents=True)
    file.touch()
    return tmp_path / "qemu"


def test_the_plan_has_the_users_tree_and_no_xen(tree: Path) -> None:
    plan = plan_of(RunOptions(host=(EMULATION.name,), qemu_src=tree, seed=3, duration=2))
    assert isinstance(plan, EmulationPlan) and plan.qemu.tree == tree
    assert (plan.seed, plan.duration, plan.hosts) == (3, 2, (EMULATION,))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": (EMULATION.name, "qemu-arm64")}, "tested alone"),
        ({"host": (EMULATION.name,), "flavour": "counter"}, "--flavour: there is no Xen"),
        ({"host": (EMULATION.name,), "xen_release": "4.14"}, "--xen-release: there is no Xen"),
        ({"host": (EMULATION.name,), "snapshot": True}, "--snapshot: there is no Xen, and no m"),
        ({"qemu_src": Path("/nowhere")}, "--qemu-src: only QEMU's emulation has that source"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_of(RunOptions(**options))


def test_only_a_run_has_it() -> None:
    with pytest.raises(ConfigError, match=r"has no machine; only `run` and pytest"):
        host(load_lab(), EMULATION.name)


@contextmanager
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> Iterator[Emulation]:
    """A session whose program ``does`` that instead of its first operation."""
    program = tmp_path / "emulated"
    program.write_text(_GREETING + does)
    program.chmod(0o755)
    monkeypatch.setattr(emulation, "emulated_guest", lambda _: program)
    monkeypatch.setattr(emulation, "_END_SECONDS", 1.0)
    plan = EmulationPlan(qemu=QemuSource(tmp_path, "10.0.2", "a test"), out=tmp_path / "out")
    recorder = Recorder(plan, directory.create(plan.out), Progress())
    with emulation.emulation(plan, recorder) as live:
        live.ready()
        yield live
    recorder.close()


def cause_of_silence(live: Emulation) -> BaseException:
    with pytest.raises(AgentLost) as lost:
        live.agent.connection.ask("close", {"port": 1}, timeout=0.5)
    return live.cause(lost.value)


def test_an_assertion_of_qemus_is_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, _ASSERTS) as live:
        cause = cause_of_silence(live)
        assert isinstance(cause, HypervisorError)
        assert "SIGABRT" in str(cause) and "Assertion `bql_locked()' failed" in str(cause)
        assert live.cause(AssertionError("a test's own")) != cause
        with pytest.raises(LabError, match="has ended"):
            live.ready()


@pytest.mark.parametrize("signal", ["KILL", "TERM", "INT", "HUP"])
def test_a_process_that_somebody_has_ended_says_nothing_of_qemu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    """The kernel where memory is short, or a person: QEMU's code sends itself none of these."""
    with running(tmp_path, monkeypatch, _KILLED.format(signal=signal)) as live:
        cause = cause_of_silence(live)
        assert isinstance(cause, AgentLost) and live.lost is None


def test_ctrl_c_at_the_terminal_goes_to_the_harness_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, _SLEEPS) as live:
        assert os.getpgid(live.program.pid) != os.getpgid(0)


def test_a_hypercall_that_never_returns_is_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, _SPINS) as live:
        cause = cause_of_silence(live)
        assert isinstance(cause, HypervisorError) and "does not return" in str(cause)
        assert live.program.wait(5) != 0


def test_silence_without_a_reason_is_the_labs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, _SLEEPS) as live:
        assert isinstance(cause_of_silence(live), AgentLost) and live.lost is None
