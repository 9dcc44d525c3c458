# SPDX-License-Identifier: GPL-2.0-or-later
"""A step of dom0's init that fails, or is late, is told by dom0's own words, over a real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evidence import BringUp, Crash
from harness.machine.console import Console
from harness.run import dom0_steps
from harness.run.second_try import not_up
from harness.verdict import LabError

EARLY = ("kernel up at 0.87", "user-space up at 2.85", "sshd up at 3.84")


class Host:
    """A machine with a serial line on which a test speaks for dom0."""

    def __init__(self, folder: Path) -> None:
        ours, self._line = socket.socketpair()
        self.console = Console(folder)
        self.console.attach(ours)
        self._line.sendall(b"(XEN) up\r\n")
        self.late: list[LabError] = []
        check = self.console.check
        self.machine: Any = SimpleNamespace(console=self.console, check=check, boot_seconds=9.0)

    def says(self, *lines: str) -> None:
        for line in lines:
            self._line.sendall(line.encode() + b"\r\n")

    def fails(self, wait: Any) -> BringUp:
        with pytest.raises(LabError) as caught:
            wait(self.machine, self.late.append)
        assert isinstance(caught.value.evidence, BringUp)
        assert not_up(caught.value) is caught.value.evidence
        return caught.value.evidence

    def close(self) -> None:
        self._line.close()
        self.console.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path / "console")
    found.says(*(f"harness: dom0 {each}" for each in EARLY))
    yield found
    found.close()


def test_what_xenstored_says_last_ends_the_wait_at_once(host: Host) -> None:
    host.says("FATAL: Failed to initialize dom0: Invalid argument")
    began = time.monotonic()
    seen = host.fails(dom0_steps.toolstack_up)
    assert time.monotonic() - began < 5
    assert (seen.step, seen.late) == ("xenstore", False)
    assert seen.reason == "FATAL: Failed to initialize dom0: Invalid argument"
    assert host.late == []


@pytest.mark.parametrize(
    ("said", "step", "reason"),
    [
        (["harness: dom0 xenstore failed at 4.0: see above"], "xenstore", "see above"),
        (
            ["xenconsoled: cannot open /dev/xen/privcmd", "harness: dom0 console failed at 5: no"],
            "console",
            "xenconsoled: cannot open /dev/xen/privcmd",
        ),
        (
            ["error : libxl_ctx_alloc", "harness: dom0 libvirtd failed at 9.1: see the log"],
            "libvirtd",
            "error : libxl_ctx_alloc",
        ),
    ],
)
def test_a_step_that_fails_is_told_by_the_line_that_says_why(
    host: Host, said: list[str], step: str, reason: str
) -> None:
    host.says("harness: dom0 xenstore up at 3.9" if step != "xenstore" else "xenstored: hm", *said)
    seen = host.fails(dom0_steps.toolstack_up)
    assert (seen.step, seen.reason) == (step, reason)
    assert seen.last_words[-1] == said[-1]
    assert dom0_steps.starts_cpus(host.console)


def test_a_module_that_is_missing_is_no_failure(host: Host) -> None:
    host.says("harness: dom0 module x.ko failed", "harness: dom0 libvirtd up at 9.0")
    dom0_steps.toolstack_up(host.machine, host.late.append)
    assert not dom0_steps.starts_cpus(host.console)


def test_a_network_that_fails_ends_the_wait_for_sshd(tmp_path: Path) -> None:
    host = Host(tmp_path / "other")
    host.says("harness: dom0 network failed at 2.9: no eth0 with address ")
    seen = host.fails(lambda machine, late: dom0_steps.login(machine, None, late))  # type: ignore[arg-type]
    assert (seen.step, seen.reason) == ("network", "no eth0 with address")
    host.close()


def test_a_step_that_is_late_is_told_once_and_then_waited_for(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(dom0_steps._LIBVIRTD, late=0.2)
    monkeypatch.setattr(dom0_steps, "_LIBVIRTD", quick)
    monkeypatch.setattr(dom0_steps, "_TOOLSTACK_SECONDS", 0.6)
    host.says("harness: dom0 xenstore up at 3.9", "libvirtd: starting")
    seen = host.fails(dom0_steps.toolstack_up)
    assert (seen.step, seen.late, seen.reason) == ("libvirtd", True, "libvirtd: starting")
    assert [error.evidence for error in host.late] == [seen]
    monkeypatch.setattr(dom0_steps, "_TOOLSTACK_SECONDS", 20)

    def at_last(error: LabError) -> None:
        host.late.append(error)
        host.says("harness: dom0 libvirtd up at 40")

    dom0_steps.toolstack_up(host.machine, at_last)
    assert len(host.late) == 2


def test_whose_fault_it_may_be() -> None:
    assert not_up(LabError(BringUp(stage="boot"))) is None  # QEMU did not start, say
    assert not_up(LabError("QEMU is gone")) is None
    for domain, stage in (("dom0", "boot"), ("domu1", "domains")):
        seen = not_up(LabError(Crash(what="panic", stream=domain, text="x")))
        assert seen is not None and (seen.domain, seen.stage) == (domain, stage)
