# SPDX-License-Identifier: GPL-2.0-or-later
"""``interleave run`` and ``replay``: boot hosts, force orders of scenarios, write what happened."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from typing import Any

from harness.config.host import QemuHost
from harness.config.options import XenOptions
from harness.interleave.booted import TEST, booted
from harness.interleave.document import ScenarioResult, run_document
from harness.interleave.force_orders import (
    DebuggedMachine,
    TriedOrder,
    attach_debugger,
    force_orders,
)
from harness.interleave.order_runner import OrderOutcome
from harness.interleave.page import PageHeader, write_page
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.interleave.schedule_file import ScheduleFile, to_file
from harness.interleave.selection import OrderSelection
from harness.model.explore.interleavings import Interleaving
from harness.results import records
from harness.results.directory import write_whole
from harness.run.opened import open_recorder
from harness.run.plan import Plan, open_hypervisor
from harness.run.up import session
from harness.verdict import LabError, Verdict

_KEPT_WALKED = 1  # replay files of orders that were walked, for each scenario


def run_scenarios(
    machines: Sequence[tuple[Plan, Sequence[Scenario]]], selection: OrderSelection
) -> dict[str, Any]:
    """Force the selected orders of scenarios; return the document of ``interleave run --json``.

    A machine is booted for each plan, and the scenarios beside the plan are run on it.
    """
    results, document = list[ScenarioResult](), dict[str, Any]()
    with open_recorder(machines[0][0], TEST) as recorder:
        for plan, scenarios in machines:
            with (
                session(plan, plan.hosts[0], recorder) as live,
                attach_debugger(live) as debugged,
            ):
                run = _ForcedRun(plan, debugged, results)
                for scenario in scenarios:
                    orders = selection.orders(scenario, live.build.design, live.host.arch)
                    run.scenario(scenario, orders)
            document = run.document()
    return document


def replay_file(plan: Plan, schedule: ScheduleFile, repeat: int) -> dict[str, Any]:
    """Force the order in ``schedule`` ``repeat`` times; return the document of ``interleave
    replay --json``."""
    order = schedule.order()
    with booted(plan) as live, attach_debugger(live) as debugged:
        run = _ForcedRun(plan, debugged, [])
        result = run.scenario(SCENARIOS[schedule.scenario], [order] * repeat)
    same = sum(_same(schedule, each) for each in result.tried)
    document = run.document()
    if same < repeat:
        document["verdict"] = Verdict.FAIL
    return document | {"replayed": repeat, "same": same, "expected": schedule.outcome}


def measure_rate(host: QemuHost) -> dict[str, float]:
    """Boot ``host`` and return schedules per second of four small scenarios, for ``bench``."""
    bare = host.model_copy(update={"accel": "tcg", "domus": 0})
    xen = open_hypervisor(XenOptions())
    plan = Plan(hosts=(bare,), hypervisor=xen, snapshot=True, stub=True)
    small = [SCENARIOS[name] for name in ("send-close", "send-bind", "unmask-bind", "poll-alloc")]
    document = run_scenarios([(plan, small)], OrderSelection())
    return {
        "schedules": document["schedules"],
        "walked": document["walked"],
        "schedules_per_second": document["schedules_per_second"],
        "stops_per_schedule": document["stops_per_schedule"],
    } | {
        f"schedules_per_second_{part['scenario']}": part["schedules_per_second"]
        for part in document["scenarios"]
    }


def _same(schedule: ScheduleFile, tried: TriedOrder) -> bool:
    """Return whether the outcome and all values read are those in the file."""
    now = [dict(step.machine) for step in tried.result.steps]
    then = [step.seen for step in schedule.turns if step.seen]
    return tried.result.outcome is schedule.outcome and now == then


class _ForcedRun:
    """Forces orders on one machine; writes pages, replay files and the journal's tests."""

    def __init__(
        self, plan: Plan, debugged: DebuggedMachine, results: list[ScenarioResult]
    ) -> None:
        """``results``: of the machines before this one; those of this one are appended."""
        self._plan = plan
        self._debugged = debugged
        self._recorder = debugged.live.recorder
        self._results = results

    def scenario(self, scenario: Scenario, orders: Sequence[Interleaving]) -> ScenarioResult:
        """Force ``orders``; write page and files, also when an exception ends it early.

        A LabError ends this scenario only: the machine is restored for the next one.
        """
        result = ScenarioResult(scenario, len(orders))
        self._results.append(result)
        began = time.monotonic()

        def notice(tried: TriedOrder) -> None:
            result.tried.append(tried)
            result.seconds = time.monotonic() - began
            self._recorder.progress.update(f"{scenario.name}: {tried.number} of {len(orders)}")

        host = self._plan.hosts[0].name
        try:
            with self._recorder.phase(host, "load"):
                force_orders(self._debugged, scenario, orders, notice)
        except LabError as error:
            result.trouble = str(error)
            self._debugged.live.restore(self._debugged.stub.halted())
        finally:
            self._write(result)
        return result

    def document(self) -> dict[str, Any]:
        """Return the document of ``interleave run --json``."""
        parts = [result.document() for result in self._results]
        tried = sum(len(result.tried) for result in self._results)
        stops = sum(each.result.stops for result in self._results for each in result.tried)
        return run_document(self._debugged.live, "gdbstub", parts, tried) | {
            "stops_per_schedule": round(stops / tried, 1) if tried else 0.0,
        }

    def _write(self, result: ScenarioResult) -> None:
        """Write replay files and page of a scenario, and add its test to the journal."""
        root = self._recorder.directory.path
        folder = root / "interleave"
        folder.mkdir(exist_ok=True)
        host, name = self._plan.hosts[0].name, result.scenario.name
        for each in self._worth_keeping(result):
            file = folder / f"schedule-{name}-{each.number}.json"
            text = self._schedule(result, each).model_dump_json(indent=1)
            write_whole(file, text + "\n")
            result.files[each.number] = str(file)
        page = folder / f"{name}.html"
        result.page = str(page)
        write_page(page, self._header(result), result.tried, result.files)
        if result.tried or result.trouble:
            artifacts = [page, *(root / path for path in result.files.values())]
            self._recorder.add(
                records.Test(
                    host,
                    f"interleave-{name}",
                    result.verdict,
                    round(result.seconds, 3),
                    result.message,
                    result.story,
                    artifacts=tuple(str(p.relative_to(root)) for p in artifacts),
                    evidence=result.evidence,
                )
            )

    def _worth_keeping(self, result: ScenarioResult) -> Iterable[TriedOrder]:
        yield from result.of(OrderOutcome.MISMATCH)
        yield from result.of(OrderOutcome.INFEASIBLE)
        yield from result.of(OrderOutcome.WALKED)[:_KEPT_WALKED]

    def _schedule(self, result: ScenarioResult, tried: TriedOrder) -> ScheduleFile:
        live = self._debugged.live
        return to_file(
            result.scenario.name,
            tried.order,
            tried.result,
            flavour=live.build.flavour,
            design=live.build.design,
            arch=live.host.arch,
            host=live.host.name,
            build_id=live.build.build_id,
        )

    def _header(self, result: ScenarioResult) -> PageHeader:
        live = self._debugged.live
        words = ["evtchn-harness", "interleave", "run", result.scenario.name]
        words += ["--flavour", live.build.flavour, "--host", live.host.name]
        return PageHeader(
            result.scenario,
            live.host.name,
            live.host.arch,
            self._debugged.qemu.accel.accel,
            live.build.flavour,
            live.build.design,
            live.build.source.version,
            shlex.join(words),
            result.schedules,
            result.seconds,
        )
