# SPDX-License-Identifier: GPL-2.0-or-later
"""Forces orders of a scenario on a booted machine, one after the other.

A machine that hangs, or may hang, goes back to its snapshot before the next order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.agent.wire import AgentLost
from harness.arch import Arch
from harness.hypervisor.layout import fields
from harness.hypervisor.rwlock_word import layout_of
from harness.interleave import stop_points
from harness.interleave.order_runner import OrderOutcome, OrderResult, OrderRunner, SpareInterrupt
from harness.interleave.scenarios import Scenario
from harness.interleave.stop_points import Access, Labels, StopPoint
from harness.interleave.target import ARRIVE_SECONDS, Target
from harness.interleave.xen_memory import ChannelMemory
from harness.machine.qemu import QemuMachine
from harness.machine.rsp import Stub
from harness.model.explore.interleavings import Interleaving
from harness.run.session import Session
from harness.verdict import ConfigError, HypervisorError, LabError

# For each lock design: the word that the lock functions access, and the model's steps there.
_LABELS: dict[str, tuple[str, Labels]] = {
    "counter": ("L", stop_points.COUNTER),
    "counter-v2": ("L", stop_points.COUNTER),
    "rwlock": ("cnts", stop_points.RWLOCK),
    "spinlock": ("lock", stop_points.SPINLOCK),
}
# An order that the machine did not take is tried again.  For each try: seconds in which the threads
# must come to the lock.  If an interrupt came between, a new try helps; if the machine was busy, a
# longer wait.
_TRIES = (0.2, 0.2, 0.2, ARRIVE_SECONDS, ARRIVE_SECONDS)


@dataclass(frozen=True)
class TriedOrder:
    """An order that was tried, and the result."""

    number: int  # from 1
    order: Interleaving
    result: OrderResult


@dataclass(frozen=True)
class DebuggedMachine:
    """A booted machine, the connection to its gdbstub, and the stop points of its Xen."""

    live: Session
    qemu: QemuMachine
    stub: Stub
    points: dict[str, tuple[StopPoint, ...]]  # by lock word


def points_of(elf: Path, arch: Arch, design: str) -> dict[str, tuple[StopPoint, ...]]:
    """Return the stop points of a channel's lock of that ``design`` and of event_lock, by word.

    ConfigError if the channels' users take the lock without functions of its own.
    """
    word, labels = _LABELS[design]
    points = stop_points.stop_points(elf, arch, labels)
    if not any(point.label == "leave" for point in points):
        raise ConfigError(
            "no function leaves the channel's lock: its users call spin_unlock() themselves, as "
            "before Xen 4.15, and a debugger cannot tell which of these calls are about channels",
            where=str(elf),
            hint="force the orders of a later tree",
        )
    event_lock = fields(elf, "domain")["event_lock"][0]
    event_points = stop_points.stop_points(elf, arch, stop_points.EVENT_LOCK, event_lock)
    return {word: points, "elock": event_points}


@contextmanager
def attach_debugger(live: Session) -> Iterator[DebuggedMachine]:
    """Connect to the gdbstub of ``live``; LabError if it was booted without one."""
    machine = live.machine
    if not isinstance(machine, QemuMachine) or machine.stub is None:
        raise LabError("the machine was started without a gdbstub", where=live.host.name)
    points = points_of(_symbols(live), live.host.arch, live.build.design)
    stub = Stub(machine.stub)
    try:
        stub.go()
        yield DebuggedMachine(live, machine, stub, points)
    finally:
        stub.close()


def force_orders(
    debugged: DebuggedMachine,
    scenario: Scenario,
    orders: Iterable[Interleaving],
    notice: Callable[[TriedOrder], None],
) -> list[TriedOrder]:
    """Force each of ``orders``; call ``notice`` with each as soon as it has a result."""
    tried = []
    runner: OrderRunner | None = None
    for number, order in enumerate(orders, 1):
        for timeout in _TRIES:
            runner = runner or _runner(debugged, scenario)
            result = _force(debugged, runner, order, timeout)
            if result.needs_restore:
                debugged.live.restore(debugged.stub.halted())
                runner = None
            if result.outcome is not OrderOutcome.INFEASIBLE:
                break
        tried.append(TriedOrder(number, order, result))
        notice(tried[-1])
    if runner is not None:
        runner.close()
    return tried


def _force(
    debugged: DebuggedMachine, runner: OrderRunner, order: Interleaving, timeout: float
) -> OrderResult:
    """Force one order.  If the machine is lost and Xen is to blame, the outcome is a mismatch."""
    began = time.monotonic()
    try:
        return runner.run(order, timeout)
    except AgentLost as error:
        cause = debugged.live.cause(error)
        if not isinstance(cause, HypervisorError):
            raise cause from error
        lost = (None,) * len(runner.scenario.threads)
        seconds = time.monotonic() - began
        return OrderResult(
            OrderOutcome.MISMATCH,
            cause.what,
            runner.steps,
            lost,
            seconds,
            0,
            evidence=cause.evidence,
        )


def _symbols(live: Session) -> Path:
    """Return the file with Xen's symbols; ConfigError if the build has none."""
    if not live.build.has_symbols:
        raise ConfigError(
            "no symbols: the stop points of this Xen cannot be found",
            where=str(live.build.image),
            hint="take a Xen that is built from source",
        )
    return live.build.syms


def _runner(debugged: DebuggedMachine, scenario: Scenario) -> OrderRunner:
    live, host = debugged.live, debugged.qemu.host
    system = scenario.system(live.build.design, live.host.arch)
    several = any(variable.name == "elock" for variable in system.variables)
    target, memory = aim(debugged, scenario, several)
    vcpus = host.cpus - host.domus * host.domu_vcpus
    return OrderRunner(
        scenario, system, target, memory, live.agents, vcpus, _spare(debugged.qemu, scenario)
    )


def aim(
    debugged: DebuggedMachine, scenario: Scenario, several: bool
) -> tuple[Target, ChannelMemory]:
    """Return the machine as ``scenario`` needs it, and its channels in memory; the machine runs.

    ``several``: the CPUs stop at the event_lock as well.
    """
    live, stub, host = debugged.live, debugged.stub, debugged.qemu.host
    points = {word: p for word, p in debugged.points.items() if several or word != "elock"}
    syms, arch = _symbols(live), live.host.arch
    callers = {name for thread in scenario.threads for name in thread.functions}
    lock_entries = {
        word: stop_points.lock_entries(syms, arch, callers, listed)
        for word, listed in points.items()
    }
    if several:  # each writer takes the event_lock first
        lock_entries = {
            "elock": tuple(p for p in lock_entries["elock"] if p.access is not Access.CALL)
        }
    clock = debugged.qemu.clock
    target = Target(stub, arch, syms, host.cpus, points, lock_entries, clock)
    target.reader = target.halt_in_xen()
    domid = live.agents[scenario.owner(scenario.lock)].domid
    layout = layout_of(live.build.source.tree)
    if layout is None:
        raise LabError(
            "the layout of the rwlock's word in xen/include/xen/rwlock.h is none that is known",
            where=str(live.build.source.tree),
            hint="add it to harness/hypervisor/rwlock_word.py",
        )
    memory = ChannelMemory(syms, live.build.design, layout, target.read, target.write, domid)
    stub.go()
    return target, memory


def _spare(machine: QemuMachine, scenario: Scenario) -> SpareInterrupt:
    """Raise the line of the machine's spare interrupt and return it, if ``scenario`` needs one."""
    calls = (*scenario.setup, *(thread.call for thread in scenario.threads))
    if not any(call.irq for call in calls):
        return SpareInterrupt()
    return SpareInterrupt(machine.spare_interrupt(True), machine.spare_interrupt)
