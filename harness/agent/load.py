"""Load from all domains at once: seeded, watched, and brought home as one history."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness.agent import clock
from harness.agent.client import AgentClient
from harness.agent.clock import Clock
from harness.agent.member import QUIET_MS, Member
from harness.history.format.history import History, ThreadLog
from harness.verdict import HarnessError

STATUS_EVERY = 0.5  # seconds
_SALVAGE_AT_MOST = 60.0

Value = TypeVar("Value")


@dataclass(frozen=True)
class LoadPlan:
    """What to do, and how much of it.

    Counts of channels are per domain: ``raw`` and ``device`` loop back; ``cross`` is per
    peer, way (raw, device) and direction; ``virq`` is each of raw VIRQ, device VIRQ and IPI.
    """

    seed: int
    duration_s: float
    run: int = 1  # number of this load, found in its pages of records
    threads_per_vcpu: int = 1
    records: int = 1 << 18  # room per thread (8 MiB); a full buffer ends its thread
    raw: int = 4
    device: int = 3
    cross: int = 2
    virq: int = 1


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is."""

    elapsed_s: float
    operations: Mapping[str, int]  # by domain, so far
    per_second: float  # all domains, of late


def run_load(
    agents: Mapping[str, AgentClient],
    plan: LoadPlan,
    *,
    flavour: str,
    release: tuple[int, int],
    arch: str,
    host: str,
    progress: Callable[[LoadProgress], None],
    watch: Callable[[], None],
    broke: Callable[[BaseException], None] = lambda error: None,
    salvage: Callable[[History], None] = lambda history: None,
) -> History:
    """Put load on every domain of ``agents`` (name to client; one is dom0's) and record it.

    ``watch`` is called at least once a second and raises when something died elsewhere.
    All ports are closed at the end; ``meta["open_ports"]`` has those, by domain, that Xen
    does not report as closed.

    Raises AgentLost when an agent falls silent, OperationInFlight when a thread's operation
    does not come back from Xen, LabError when a thread stands still otherwise, and whatever
    ``watch`` raises.  Before that, ``broke`` is told the error, and ``salvage`` is given the
    history of what could still be collected, operations in flight included;
    harness.agent.recover can add to it.
    """
    if all(agent.domid != 0 for agent in agents.values()):
        raise HarnessError("a load needs dom0's agent: its clock is the reference")
    members = {name: Member(agents[name], i) for i, name in enumerate(sorted(agents))}

    def history(complete: bool) -> History:
        meta = _meta(plan, members) | {"complete": complete}
        if complete:  # only then did every reader go on until nothing came for so long
            meta["drained_ns"] = QUIET_MS * 1_000_000
        return History(flavour, release, arch, host, tuple(_logs(members)), meta)

    pool = ThreadPoolExecutor(len(members), "agent")
    each = _Each(pool, members, watch)
    try:
        _read_clocks(members, "before", watch)
        _begin(members, plan, each)
        each(Member.go)
        _let_run(members, plan, each, progress)
        each(Member.stop)
        each(Member.drain)  # everywhere, before the first port is closed
        each(Member.release)
        _read_clocks(members, "after", watch)
        each(Member.collect)
        return history(complete=True)
    except BaseException as error:
        broke(error)
        _salvage(members)
        salvage(history(complete=False))
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _ForAll(Protocol):
    def __call__(self, task: Callable[[Member], Value]) -> dict[str, Value]: ...


@dataclass(frozen=True)
class _Each:
    """Does something for all members at once; raises the first error, or what watch raises."""

    pool: ThreadPoolExecutor
    members: Mapping[str, Member]
    watch: Callable[[], None]

    def __call__(self, task: Callable[[Member], Value]) -> dict[str, Value]:
        futures = {name: self.pool.submit(task, member) for name, member in self.members.items()}
        pending: set[Future[Value]] = set(futures.values())
        while pending:
            done, pending = wait(pending, STATUS_EVERY, FIRST_EXCEPTION)
            self.watch()
            for future in done:
                future.result()
        return {name: future.result() for name, future in futures.items()}


def _read_clocks(members: Mapping[str, Member], when: str, watch: Callable[[], None]) -> None:
    """Compare clocks, one domain after the other: an exchange needs both CPUs."""
    for member in members.values():
        watch()
        setattr(member, when, member.agent.clock())


def _begin(members: Mapping[str, Member], plan: LoadPlan, each: _ForAll) -> None:
    """Make every agent's channels, and tell each which ports of its peers it may bind to."""

    def begin(member: Member) -> Mapping[int, list[int]]:
        peers = [m.agent.domid for m in members.values() if m is not member]
        return member.begin(
            {
                "seed": plan.seed,
                "run": plan.run,
                "records": plan.records,
                "raw": plan.raw,
                "device": plan.device,
                "cross": plan.cross,
                "virq": plan.virq,
                "peers": peers,
            },
            plan.threads_per_vcpu,
        )

    anchors = {members[name].agent.domid: ports for name, ports in each(begin).items()}

    def introduce(member: Member) -> None:
        ours = member.agent.domid
        member.introduce({domid: ports[ours] for domid, ports in anchors.items() if domid != ours})

    each(introduce)


def _let_run(
    members: Mapping[str, Member],
    plan: LoadPlan,
    each: _ForAll,
    progress: Callable[[LoadProgress], None],
) -> None:
    """Wait for the load's end: its time is over, or every buffer is full."""
    began = last = time.monotonic()
    total = 0
    while (left := began + plan.duration_s - time.monotonic()) > 0:
        time.sleep(min(STATUS_EVERY, left))
        each(Member.look)
        now = time.monotonic()
        done = {name: member.operations for name, member in members.items()}
        rate = (sum(done.values()) - total) / (now - last)
        progress(LoadProgress(now - began, done, rate))
        total, last = sum(done.values()), now
        if all(member.full for member in members.values()):
            return


def _salvage(members: Mapping[str, Member]) -> None:
    """Collect from every agent that still answers; the load need not have stopped for it."""
    pool = ThreadPoolExecutor(len(members), "salvage")
    wait([pool.submit(member.salvage) for member in members.values()], _SALVAGE_AT_MOST)
    pool.shutdown(wait=False)


def _logs(members: Mapping[str, Member]) -> list[ThreadLog]:
    clocks = _clocks(members)
    return [
        ThreadLog(
            domid=member.agent.domid,
            domain=name,
            thread=thread.thread,
            vcpu=thread.vcpu,
            records=thread.records,
            tick_hz=clocks[name].tick_hz,
            ticks_at_zero=clocks[name].ticks_at_zero,
            error_ns=clocks[name].error_ns,
            lost=thread.lost,
        )
        for name, member in members.items()
        if name in clocks
        for thread in member.collected.values()
    ]


def _clocks(members: Mapping[str, Member]) -> dict[str, Clock]:
    """Return the clocks of all members that were compared at least once."""
    readings = {
        name: (member.before, member.after or member.before)
        for name, member in members.items()
        if member.before
    }
    first = next((name for name in readings if members[name].agent.domid == 0), None)
    if first is None:
        return {}
    dom0 = clock.reference(*readings[first])
    return {
        name: dom0 if name == first else clock.compare(*pair, dom0)
        for name, pair in readings.items()
    }


def _meta(plan: LoadPlan, members: Mapping[str, Member]) -> dict[str, object]:
    readings = [r for m in members.values() for r in (m.before, m.after) if r]
    return {
        "seed": plan.seed,
        "duration_s": plan.duration_s,
        "cpu_error_ns": max((-(-r.skew * 10**9 // r.tick_hz) for r in readings), default=0),
        "open_ports": {name: m.open_ports for name, m in members.items() if m.open_ports},
    }
