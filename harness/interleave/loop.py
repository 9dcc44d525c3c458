"""The loop over a scenario's orders on a booted machine; a machine that is wedged is restored."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.agent.wire import AgentLost
from harness.hypervisor.layout import fields
from harness.interleave import stops
from harness.interleave.rsp import Stub
from harness.interleave.scenarios import Scenario
from harness.interleave.stops import Access, Labels, StopPoint
from harness.interleave.target import ARRIVE_SECONDS, Target
from harness.interleave.view import View
from harness.interleave.walk import Outcome, Spare, Walked, Walker
from harness.machine.qemu import QemuMachine
from harness.model.explore.interleavings import Interleaving
from harness.run.session import Session
from harness.verdict import ConfigError, HypervisorError, LabError

# The word of each lock that its functions access, and what these are in the model.
_LABELS: dict[str, tuple[str, Labels]] = {
    "counter": ("L", stops.COUNTER),
    "counter-v2": ("L", stops.COUNTER),
    "rwlock": ("cnts", stops.RWLOCK),
    "spinlock": ("lock", stops.SPINLOCK),
}
# Tries of an order, and for how many seconds its lanes may be on their way to the lock: an
# interrupt may have been in the way (then trying again helps), or a busy machine (then waiting).
_TRIES = (0.2, 0.2, 0.2, ARRIVE_SECONDS, ARRIVE_SECONDS)


@dataclass(frozen=True)
class Tried:
    """One order, and what became of it."""

    number: int  # from 1
    order: Interleaving
    walked: Walked


@dataclass(frozen=True)
class Bench:
    """A booted machine with its stub: what scenarios are run on."""

    live: Session
    machine: QemuMachine
    stub: Stub
    points: dict[str, tuple[StopPoint, ...]]


@contextmanager
def bench(live: Session) -> Iterator[Bench]:
    """Connect to the stub of ``live``, which must have been booted with one."""
    machine = live.machine
    if not isinstance(machine, QemuMachine) or machine.stub is None:
        raise LabError("the machine was started without a gdbstub", where=live.host.name)
    word, labels = _LABELS[live.build.design]
    syms, arch = _symbols(live), live.host.arch
    event_lock = fields(syms, "domain")["event_lock"][0]
    points = {
        word: stops.stop_points(syms, arch, labels),
        "elock": stops.stop_points(syms, arch, stops.EVENT_LOCK, event_lock),
    }
    stub = Stub(machine.stub)
    try:
        stub.go()
        yield Bench(live, machine, stub, points)
    finally:
        stub.close()


def run_orders(
    on: Bench,
    scenario: Scenario,
    orders: Iterable[Interleaving],
    notice: Callable[[Tried], None],
) -> list[Tried]:
    """Take every one of ``orders``; tell each to ``notice`` as soon as it is over."""
    tried = []
    walker: Walker | None = None
    for number, order in enumerate(orders, 1):
        for patience in _TRIES:
            walker = walker or _walker(on, scenario)
            walked = _walk(on, walker, order, patience)
            if walked.spoilt:
                on.live.restore(on.stub.held())
                walker = None
            if walked.outcome is not Outcome.INFEASIBLE:
                break
        tried.append(Tried(number, order, walked))
        notice(tried[-1])
    if walker is not None:
        walker.close()
    return tried


def _walk(on: Bench, walker: Walker, order: Interleaving, patience: float) -> Walked:
    """Take one order; what the machine dies of is a mismatch, if Xen is to blame."""
    began = time.monotonic()
    try:
        return walker.walk(order, patience)
    except AgentLost as error:
        cause = on.live.cause(error)
        if not isinstance(cause, HypervisorError):
            raise cause from error
        lost = (None,) * len(walker.scenario.lanes)
        seconds = time.monotonic() - began
        return Walked(
            Outcome.MISMATCH, cause.what, walker.rows, lost, seconds, 0, evidence=cause.evidence
        )


def _symbols(live: Session) -> pathlib.Path:
    """Return the file with Xen's symbols; ConfigError for a build that has none."""
    if not live.build.has_symbols:
        raise ConfigError(
            "no symbols: the stop points of this Xen cannot be found",
            where=str(live.build.image),
            hint="take a Xen that is built from source",
        )
    return live.build.syms


def _walker(on: Bench, scenario: Scenario) -> Walker:
    live, stub, host = on.live, on.stub, on.machine.host
    system = scenario.system(live.build.design, live.host.arch)
    several = any(variable.name == "elock" for variable in system.variables)
    points = {word: p for word, p in on.points.items() if several or word != "elock"}
    syms, arch = _symbols(live), live.host.arch
    callers = {name for lane in scenario.lanes for name in lane.functions}
    gates = {word: stops.gates(syms, arch, callers, listed) for word, listed in points.items()}
    if several:  # the event_lock comes first
        gates = {"elock": tuple(p for p in gates["elock"] if p.access is not Access.CALL)}
    target = Target(stub, arch, syms, host.cpus, points, gates)
    target.reader = target.halt_in_xen()
    domid = live.agents[scenario.owner(scenario.lock)].domid
    view = View(syms, live.build.design, target.read, target.write, domid)
    stub.go()
    vcpus = host.cpus - host.domus * host.domu_vcpus
    return Walker(scenario, system, target, view, live.agents, vcpus, _spare(on.machine, scenario))


def _spare(machine: QemuMachine, scenario: Scenario) -> Spare:
    """Return the machine's spare interrupt if ``scenario`` is about one, its line raised."""
    calls = (*scenario.given, *(lane.call for lane in scenario.lanes))
    if not any(call.irq for call in calls):
        return Spare()
    return Spare(machine.spare_interrupt(True), machine.spare_interrupt)
