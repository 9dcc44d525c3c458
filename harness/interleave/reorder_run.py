# SPDX-License-Identifier: GPL-2.0-or-later
"""``interleave reorder``: judge a build, boot it, and force what its machine code leaves open."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.arch import Arch
from harness.binary.judge import judge
from harness.config.host import QemuHost
from harness.hypervisor.build import build
from harness.interleave.booted import booted
from harness.interleave.force_orders import attach_debugger
from harness.interleave.reorder import Forced, Forcer
from harness.interleave.reorder_scenarios import scenario_of
from harness.interleave.reorderings import Reordering, reorderings
from harness.interleave.scenarios import Scenario
from harness.interleave.target import Stuck
from harness.results import records
from harness.run.plan import Hypervisor, Plan
from harness.run.session import Session
from harness.verdict import ConfigError, LabError, Verdict, combine

_TRIES = 5  # an interrupt may come between, as in force_orders
_MACHINE = {"domus": 0, "cpus": 2, "accel": "tcg", "abi": "2l"}


@dataclass
class _Result:
    """What was forced of one reordering so far."""

    reordering: Reordering
    scenario: Scenario
    forced: list[Forced] = field(default_factory=list)
    trouble: str = ""  # why it ended early

    @property
    def shown(self) -> list[Forced]:
        return [one for one in self.forced if one.shows]

    @property
    def verdict(self) -> Verdict:
        """FAIL where something was seen; MISS where the order could not be forced."""
        if self.shown:
            return Verdict.FAIL
        return Verdict.MISS if self.trouble or not self.forced else Verdict.DONE

    def document(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "verdict": self.verdict,
            "moved": self.reordering.moved,
            "function": self.reordering.function,
            "what": self.reordering.what,
            "trace": list(self.reordering.trace),
            "tried": len(self.forced),
            "shown": len(self.shown),
            "message": self.shown[0].shows if self.shown else self.trouble,
            "steps": list(self.shown[0].steps if self.shown else ()),
            "seconds": [round(one.seconds, 3) for one in self.forced],
        }


def run_reorder(plan: Plan, repeat: int) -> dict[str, Any]:
    """Force each order that the build leaves open, ``repeat`` times; return the document of
    ``interleave reorder --json``.

    Without such an order nothing is booted.  ConfigError if the host is not arm64.
    """
    host = plan.hosts[0]
    if host.arch is not Arch.ARM64 or not isinstance(host, QemuHost):
        raise ConfigError(
            f"{host.name} is no QEMU host with arm64: the orders are those that Armv8 allows",
            where="--host",
            hint="use qemu-arm64",
        )
    began = time.monotonic()
    verdict, found = _left_open(plan.hypervisor, host.arch)
    pairs = [(one, scenario) for one in found if (scenario := scenario_of(one)) is not None]
    head = {
        "host": host.name,
        "flavour": plan.hypervisor.flavour.name,
        "binary": verdict,
        "left_open": [one.what for one in found],
        "without_scenario": [one.what for one in found if scenario_of(one) is None],
        "seconds": round(time.monotonic() - began, 3),
    }
    if not pairs:
        nothing = Verdict.PASS if verdict == "as modelled" else Verdict.MISS
        return head | {"verdict": nothing, "path": "", "scenarios": []}
    results = [_Result(one, scenario) for one, scenario in pairs]
    with booted(plan) as live:
        for result in results:
            _force(live, result, repeat)
        path = str(live.recorder.directory.path)
    return head | {
        "verdict": combine(result.verdict for result in results),
        "path": path,
        "scenarios": [result.document() for result in results],
        "seconds": round(time.monotonic() - began, 3),
    }


def machine_of(host: QemuHost) -> QemuHost:
    """Return ``host`` with the CPUs that the scenarios need, and without a domU."""
    return host.model_copy(update=_MACHINE)


def _left_open(xen: Hypervisor, arch: Arch) -> tuple[str, Sequence[Reordering]]:
    built = build(xen.source, xen.flavour, arch, how=xen.how)
    if not built.has_symbols:
        raise ConfigError("no symbols", where=str(built.image), hint="take a Xen built from source")
    judged = judge(built.syms, built.design)
    return judged.verdict, reorderings(judged)


def _force(live: Session, result: _Result, repeat: int) -> None:
    """Force one reordering ``repeat`` times, and add its test to the journal."""
    note, name = live.recorder.progress.note, result.scenario.name
    try:
        with attach_debugger(live) as debugged, live.recorder.phase(live.host.name, "load"):
            forcer = Forcer(debugged, result.reordering, result.scenario)
            for number in range(repeat):
                result.forced.append(_patiently(forcer.force))
                note(f"{name} {number + 1} of {repeat}: {result.forced[-1].shows or 'nothing'}")
    except LabError as error:
        result.trouble = str(error)
    live.recorder.add(
        records.Test(
            live.host.name,
            f"reorder-{name}-{result.reordering.function}",
            result.verdict,
            round(sum(one.seconds for one in result.forced), 3),
            result.shown[0].shows if result.shown else result.trouble,
            _story(result),
            evidence=result.shown[0].evidence if result.shown else None,
        )
    )


def _patiently(force: Callable[[], Forced]) -> Forced:
    for _ in range(_TRIES - 1):
        try:
            return force()
        except Stuck:
            pass
    return force()


def _story(result: _Result) -> str:
    steps = result.shown[0].steps if result.shown else ()
    one = result.reordering
    return "\n".join((f"{one.moved}: {one.what}", *one.trace, "On the machine:", *steps))
