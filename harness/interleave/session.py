"""A run of scenarios on one host, from the plan to what is kept of it."""

from __future__ import annotations

import itertools
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from harness import __version__
from harness.arch import Arch
from harness.config.host import QemuHost
from harness.config.options import XenOptions
from harness.evidence import Evidence
from harness.interleave.expose import STRESSES, Shown, expose
from harness.interleave.loop import Bench, Tried, bench, run_orders
from harness.interleave.page import About, write_page
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.interleave.schedule import ScheduleFile, to_file
from harness.interleave.walk import Outcome
from harness.model.explore.interleavings import Interleaving, interleavings
from harness.model.lock.locks import LOCKS
from harness.progress import Progress
from harness.results import directory, records
from harness.results.directory import write_whole
from harness.results.report import write_reports
from harness.run.plan import Plan, open_hypervisor
from harness.run.recorder import Recorder
from harness.run.session import Session, session
from harness.verdict import HarnessError, LabError, Verdict, combine

_FEW = 2  # CPUs of which all orders are walked unless told otherwise
_BOUND = 2  # preemptions of more
_KEPT_WALKED = 1  # replay files of schedules that went well, of each scenario


@dataclass(frozen=True)
class Choice:
    """Which of a scenario's orders."""

    preemptions: int | None = None
    reduce: bool = False
    limit: int | None = None
    repeat: int = 1

    def orders(self, scenario: Scenario, design: str, arch: Arch) -> list[Interleaving]:
        """Return the orders of ``scenario`` that were chosen."""
        bound, few = self.preemptions, len(scenario.lanes) <= _FEW
        if bound is None and not self.reduce and not few:
            bound = _BOUND
        system = scenario.system(design, arch)
        every = interleavings(system, waits=few, reduce=self.reduce, preemptions=bound)
        return list(itertools.islice(every, self.limit)) * self.repeat


def orders_by_design(scenario: Scenario) -> dict[str, int]:
    """Return how many orders the model has of ``scenario``, by lock design."""
    return {design: len(Choice().orders(scenario, design, Arch.X86_64)) for design in LOCKS}


@dataclass
class _Result:
    """One scenario's part of the document."""

    scenario: Scenario
    schedules: int
    tried: list[Tried] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    page: str = ""
    trouble: str = ""  # what ended it early: no fault of Xen's

    @property
    def verdict(self) -> Verdict:
        outcomes = {each.walked.outcome for each in self.tried}
        if Outcome.MISMATCH in outcomes:
            return Verdict.FAIL
        whole = Outcome.WALKED in outcomes and not self.trouble
        return Verdict.PASS if whole else Verdict.MISS

    def of(self, outcome: Outcome) -> list[Tried]:
        """Return the schedules with that outcome."""
        return [each for each in self.tried if each.walked.outcome is outcome]

    @property
    def message(self) -> str:
        """Why it is no PASS, in one line."""
        bad = self.of(Outcome.MISMATCH)
        if bad:
            times = f"{len(bad)} of {self.schedules} orders" if len(bad) > 1 else "an order"
            return f"{times} did not go as the model says: {bad[0].walked.why}"
        return self.trouble or ("" if self.of(Outcome.WALKED) else "no order could be walked")

    @property
    def story(self) -> str:
        """The first schedule that went wrong, a line per turn."""
        bad = self.of(Outcome.MISMATCH)
        return "\n".join(_told(bad[0])) if bad else ""

    @property
    def evidence(self) -> Evidence | None:
        """The same as a value."""
        bad = self.of(Outcome.MISMATCH)
        return bad[0].walked.evidence if bad else None

    def document(self) -> dict[str, Any]:
        """Return it for --json."""

        def listed(outcome: Outcome) -> list[dict[str, Any]]:
            return [
                {
                    "schedule": each.number,
                    "order": [turn.thread for turn in each.order],
                    "why": each.walked.why,
                    "seconds": round(each.walked.seconds, 3),
                    "file": self.files.get(each.number, ""),
                }
                for each in self.of(outcome)
            ]

        return {
            "scenario": self.scenario.name,
            "verdict": self.verdict,
            "message": self.message,
            "schedules": self.schedules,
            "walked": len(self.of(Outcome.WALKED)),
            "infeasible": listed(Outcome.INFEASIBLE),
            "mismatches": listed(Outcome.MISMATCH),
            "seconds": round(self.seconds, 3),
            "schedules_per_second": rate_of(len(self.tried), self.seconds),
            "page": self.page,
        }


def _told(tried: Tried) -> Iterator[str]:
    """Yield what was done and seen, a line per turn, and what was wrong at the end."""
    for number, row in enumerate(tried.walked.rows, 1):
        seen = " ".join(f"{name}={value}" for name, value in row.machine.items())
        waits = ", has to wait" if row.waited else ""
        yield f"{number:3}. lane {row.lane}: {row.step}{waits}  [{seen}]  {row.xen}; at {row.where}"
    yield f"  => {tried.walked.why}"


def run_scenarios(
    machines: Sequence[tuple[Plan, Sequence[Scenario]]], choice: Choice
) -> dict[str, Any]:
    """Walk the chosen orders of scenarios, those of each plan on a machine of its own; return the
    document of ``interleave run --json``."""
    results, document = list[_Result](), dict[str, Any]()
    with _kept(machines[0][0]) as recorder:
        for plan, scenarios in machines:
            with session(plan, plan.hosts[0], recorder) as live, bench(live) as ready:
                run = _Run(plan, ready, results)
                for scenario in scenarios:
                    orders = choice.orders(scenario, live.build.design, live.host.arch)
                    run.scenario(scenario, orders)
            document = run.document()
    return document


def replay_file(plan: Plan, schedule: ScheduleFile, repeat: int) -> dict[str, Any]:
    """Take ``schedule`` again, ``repeat`` times; return the document of ``interleave replay``."""
    order = schedule.order()
    with _run(plan) as run:
        result = run.scenario(SCENARIOS[schedule.scenario], [order] * repeat)
    same = sum(_same(schedule, each) for each in result.tried)
    document = run.document()
    if same < repeat:
        document["verdict"] = Verdict.FAIL
    return document | {"replayed": repeat, "same": same, "expected": schedule.outcome}


def run_expose(
    plan: Plan,
    scenario: Scenario,
    choice: Choice,
    stress: str,
    *,
    forced: int,
    stressed: int,
    patience: float,
) -> dict[str, Any]:
    """Return the document of ``interleave expose --json``."""
    with _run(plan) as run:
        live = run.bench.live
        orders = choice.orders(scenario, live.build.design, live.host.arch)
        note = live.recorder.progress.note
        with live.recorder.phase(live.host.name, "load"):
            found = expose(
                run.bench,
                scenario,
                orders,
                STRESSES[stress],
                forced=forced,
                stressed=stressed,
                patience=patience,
                notice=note,
            )
        verdict = Verdict.DONE if found is None else Verdict.FAIL
        first = None if found is None else found.forced[0]
        live.recorder.add(
            records.Test(
                live.host.name,
                f"expose-{scenario.name}",
                verdict,
                0.0,
                "" if first is None else f"{scenario.name}: {first.how}",
                evidence=None if first is None else first.evidence,
            )
        )
    head = {
        "scenario": scenario.name,
        "flavour": plan.hypervisor.flavour.name,
        "host": plan.hosts[0].name,
    }
    if found is None:
        return head | {"verdict": verdict, "exposed": False}
    return head | {
        "verdict": verdict,
        "exposed": True,
        "order": [turn.thread for turn in found.order],
        "forced": [asdict(shown) for shown in found.forced],
        "reproduced": sum(bool(shown.how) for shown in found.forced),
        "stress": stress,
        "stressed": [asdict(shown) for shown in found.stressed],
        "shown_under_stress": sum(bool(shown.how) for shown in found.stressed),
        "median_seconds_forced": _median(found.forced),
        "median_seconds_stressed": _median(found.stressed),
        "times_faster": found.ratio and round(found.ratio, 1),
    }


def _median(shown: Sequence[Shown]) -> float | None:
    return round(statistics.median(each.seconds for each in shown), 3) if shown else None


def rate(host: QemuHost) -> dict[str, float]:
    """Return schedules per second of the small scenarios, and where the time of one goes."""
    bare = host.model_copy(update={"accel": "tcg", "domus": 0})
    xen = open_hypervisor(XenOptions())
    plan = Plan(hosts=(bare,), hypervisor=xen, snapshot=True, stub=True)
    small = [SCENARIOS[name] for name in ("send-close", "send-bind", "unmask-bind", "poll-alloc")]
    document = run_scenarios([(plan, small)], Choice())
    return {
        "schedules": document["schedules"],
        "walked": document["walked"],
        "schedules_per_second": document["schedules_per_second"],
        "stops_per_schedule": document["stops_per_schedule"],
    } | {
        f"schedules_per_second_{part['scenario']}": part["schedules_per_second"]
        for part in document["scenarios"]
    }


def _same(schedule: ScheduleFile, tried: Tried) -> bool:
    """Say whether the machine did what it did when the file was made."""
    seen = [dict(row.machine) for row in tried.walked.rows]
    then = [turn.seen for turn in schedule.turns if turn.seen]
    return tried.walked.outcome is schedule.outcome and seen == then


class _Run:
    """One host's bench, and everything that is written down."""

    def __init__(self, plan: Plan, on: Bench, results: list[_Result]) -> None:
        self._plan = plan
        self._run = on.live.recorder.directory
        self._recorder = on.live.recorder
        self._results = results
        self.bench = on

    def scenario(self, scenario: Scenario, orders: Sequence[Interleaving]) -> _Result:
        """Walk ``orders``; keep page and files, also when it ends early.

        What is no fault of Xen's ends this scenario only: the next one has a pristine machine.
        """
        result = _Result(scenario, len(orders))
        self._results.append(result)
        began = time.monotonic()

        def notice(tried: Tried) -> None:
            result.tried.append(tried)
            result.seconds = time.monotonic() - began
            self._recorder.progress.update(f"{scenario.name}: {tried.number} of {len(orders)}")

        host = self._plan.hosts[0].name
        try:
            with self._recorder.phase(host, "load"):
                run_orders(self.bench, scenario, orders, notice)
        except LabError as error:
            result.trouble = str(error)
            self.bench.live.restore(self.bench.stub.held())
        finally:
            self._keep(result)
        return result

    def _keep(self, result: _Result) -> None:
        folder = self._run.path / "interleave"
        folder.mkdir(exist_ok=True)
        host, name = self._plan.hosts[0].name, result.scenario.name
        for each in self._worth_keeping(result):
            file = folder / f"schedule-{name}-{each.number}.json"
            write_whole(file, self._schedule(result, each).model_dump_json(indent=1) + "\n")
            result.files[each.number] = str(file)
        page = folder / f"{name}.html"
        result.page = str(page)
        write_page(page, self._about(result), result.tried, result.files)
        if result.tried or result.trouble:
            artifacts = [page, *(self._run.path / path for path in result.files.values())]
            self._recorder.add(
                records.Test(
                    host,
                    f"interleave-{name}",
                    result.verdict,
                    round(result.seconds, 3),
                    result.message,
                    result.story,
                    artifacts=tuple(str(p.relative_to(self._run.path)) for p in artifacts),
                    evidence=result.evidence,
                )
            )

    def _worth_keeping(self, result: _Result) -> Iterable[Tried]:
        yield from result.of(Outcome.MISMATCH)
        yield from result.of(Outcome.INFEASIBLE)
        yield from result.of(Outcome.WALKED)[:_KEPT_WALKED]

    def _schedule(self, result: _Result, tried: Tried) -> ScheduleFile:
        live = self.bench.live
        return to_file(
            result.scenario.name,
            tried.order,
            tried.walked,
            flavour=live.build.flavour,
            design=live.build.design,
            arch=live.host.arch,
            host=live.host.name,
            build_id=live.build.build_id,
        )

    def _about(self, result: _Result) -> About:
        live = self.bench.live
        words = ["evtchn-harness", "interleave", "run", result.scenario.name]
        words += ["--flavour", live.build.flavour, "--host", live.host.name]
        return About(
            result.scenario,
            live.host.name,
            live.host.arch,
            self.bench.machine.accel.accel,
            live.build.flavour,
            live.build.design,
            live.build.source.version,
            shlex.join(words),
            result.schedules,
            result.seconds,
        )

    def document(self) -> dict[str, Any]:
        """Return what --json prints: totals, and each scenario."""
        parts = [result.document() for result in self._results]
        tried = sum(len(result.tried) for result in self._results)
        stops = sum(each.walked.stops for result in self._results for each in result.tried)
        return totals(self.bench.live, "gdbstub", parts, tried) | {
            "stops_per_schedule": round(stops / tried, 1) if tried else 0.0,
        }


def totals(
    live: Session, forced_by: str, parts: Sequence[dict[str, Any]], tried: int
) -> dict[str, Any]:
    """Return the document of ``interleave run --json`` for the scenarios ``parts``.

    ``tried``: schedules of them all that took ``seconds``.
    """
    return {
        "verdict": combine([*(part["verdict"] for part in parts), live.recorder.verdict]),
        "host": live.host.name,
        "flavour": live.plan.hypervisor.flavour.name,
        "design": live.build.design,
        "forced_by": forced_by,
        "path": str(live.recorder.directory.path),
        "schedules": sum(part["schedules"] for part in parts),
        "walked": sum(part["walked"] for part in parts),
        "infeasible": [each for part in parts for each in part["infeasible"]],
        "mismatches": [each for part in parts for each in part["mismatches"]],
        "schedules_per_second": rate_of(tried, sum(part["seconds"] for part in parts)),
        "scenarios": parts,
    }


def rate_of(count: int, seconds: float) -> float:
    """Return how many there were in a second; 0.0 when nothing took any time."""
    return round(count / seconds, 2) if seconds else 0.0


@contextmanager
def _run(plan: Plan) -> Iterator[_Run]:
    """Boot the plan's host with a stub."""
    with booted(plan) as live, bench(live) as ready:
        yield _Run(plan, ready, [])


@contextmanager
def booted(plan: Plan) -> Iterator[Session]:
    """Boot the plan's host; close the run's book whatever happens."""
    with _kept(plan) as recorder, session(plan, plan.hosts[0], recorder) as live:
        yield live


@contextmanager
def _kept(plan: Plan) -> Iterator[Recorder]:
    """Open the run's book; close it whatever happens."""
    place = directory.create(plan.out)
    recorder = Recorder(plan, place, Progress())
    host = plan.hosts[0]
    recorder.add(records.RunStart(plan.seed, tuple(sys.argv), __version__, (host.name,)))
    message = "interrupted"
    try:
        yield recorder
        message = ""
    except HarnessError as error:
        message = str(error)
        recorder.add(records.Test(host.name, "interleave", error.verdict, 0.0, message))
        raise
    finally:
        recorder.end_host(host.name)
        recorder.end_run("" if message != "interrupted" else message)
        recorder.close()
        write_reports(place.path)
