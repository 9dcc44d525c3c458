# SPDX-License-Identifier: GPL-2.0-or-later
"""A session on QEMU's emulation: the bare guest as a process of this computer."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from harness import cache
from harness.agent.client import AgentClient
from harness.agent.emulated import emulated_guest
from harness.agent.wire import AgentLost
from harness.config.host import EmulationHost
from harness.machine.line import Line
from harness.results import records
from harness.results.manifest import Ingredient
from harness.run.plan import EmulationPlan
from harness.run.recorder import Recorder
from harness.verdict import HypervisorError, LabError

GUEST = "guest"  # its name
_END_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_SPINS_SECONDS = 0.02  # of CPU time while we look; a process that waits for a command uses none
_LAST_WORDS = 300  # bytes
# What the kernel where memory is short, a person or a terminal sends: no code sends it to itself.
_OF_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Emulation:
    """What a test case can use; as much of a Session as there is without a machine and a dom0."""

    host: EmulationHost
    plan: EmulationPlan
    recorder: Recorder
    agent: AgentClient
    program: subprocess.Popen[bytes]
    said: tempfile.SpooledTemporaryFile[bytes]  # what it has written to stderr
    lost: HypervisorError | None = None
    agents: dict[str, AgentClient] = field(default_factory=dict)  # of Linux domains: none

    def ready(self) -> None:
        """LabError if the process has ended, in an earlier test."""
        if self.program.poll() is not None:
            raise LabError("QEMU's emulation has ended", where=self.host.name)

    def cause(self, error: BaseException) -> BaseException:
        """Return the cause of ``error``, with which a test ended: that QEMU's code has ended the
        process, or does not return.  A process that does not answer is ended."""
        if not isinstance(error, AgentLost) or self.lost is not None:
            return error
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.program.wait(_END_SECONDS)
        if self.program.returncode is None:
            what = self._spinning()
            self.program.kill()
        else:
            what = self._dead(self.program.returncode)
        if what:
            self.lost = HypervisorError(what, where=self.host.name, story=error.story)
        return self.lost or error

    def _dead(self, code: int) -> str:
        """Say how QEMU's code has ended the process; "" if somebody else has."""
        if -code in _OF_OTHERS:
            return ""
        return f"QEMU's code ended the process ({_ending(code)}): {self._last_words()}"

    def _spinning(self) -> str:
        """Say whether the process computes, although it has had no new command for long."""
        process = psutil.Process(self.program.pid)
        used = -sum(process.cpu_times()[:2])
        time.sleep(_LOOK_SECONDS)
        used += sum(process.cpu_times()[:2])
        return "QEMU's code does not return from a hypercall" if used > _SPINS_SECONDS else ""

    def restore(self) -> None:
        """There is no machine, and so no snapshot (the plan has refused it)."""
        raise LabError("no machine to restore", where=self.host.name)

    def _last_words(self) -> str:
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_WORDS] if lines else "without a word"


@contextmanager
def emulation(plan: EmulationPlan, recorder: Recorder) -> Iterator[Emulation]:
    """Compile QEMU's emulation with the bare guest, and run it; end the process after the block.

    Raises BuildError or LabError.
    """
    (host,) = plan.hosts
    with recorder.phase(host.name, "build"):
        program = emulated_guest(plan.qemu)
    what = f"qemu {plan.qemu.version} ({plan.qemu.origin})"
    digest = cache.key(program.read_bytes())
    recorder.used(
        Ingredient("source", "qemu", plan.qemu.version, "", {"from": plan.qemu.origin}),
        Ingredient("build", "qemu's emulation", plan.qemu.version, digest),
    )
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.SpooledTemporaryFile())
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            child = subprocess.Popen(
                [program], stdin=end, stdout=end, stderr=said.fileno(), start_new_session=True
            )
        stack.callback(_end, child)
        stack.enter_context(ours)
        agent = AgentClient(Line(ours, GUEST), GUEST)
        live = Emulation(host, plan, recorder, agent, child, said)
        xen = ".".join(map(str, agent.hello().xen))
        recorder.add(
            records.HostStart(
                host.name, str(host.arch), "", "", "", "", f"{xen}, emulated by QEMU", what
            )
        )
        yield live


def _end(child: subprocess.Popen[bytes]) -> None:
    """Its stdin has ended, and so does it."""
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"
