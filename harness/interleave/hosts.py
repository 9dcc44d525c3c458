# SPDX-License-Identifier: GPL-2.0-or-later
"""Which scenarios are meant, and the host, CPUs and domUs that they need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.config.physical import Host, PhysicalHost
from harness.hypervisor.rwlock_word import event_lock_is_rwlock
from harness.interleave.randomized import needs_no_debugger
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.interleave.schedule_file import ScheduleFile
from harness.interleave.threads import DOM0
from harness.run.machines import DOM0_VCPUS
from harness.run.plan import Hypervisor, Plan
from harness.verdict import ConfigError


def forced_plan(host: Host, xen: Hypervisor, out: Path | None) -> Plan:
    """Return the plan of a run in which a debugger forces orders on ``host``."""
    return Plan(hosts=(host,), hypervisor=xen, out=out, snapshot=True, stub=True)


def with_debugger(host: Host, scenarios: Sequence[Scenario]) -> Host:
    """Return the host, emulated, with only the domUs and the CPUs that the scenarios need.

    ConfigError if no debugger can halt its CPUs, or a scenario is for another architecture.
    """
    if not isinstance(host, QemuHost):
        raise ConfigError(
            f"{host.name} is a server: no debugger can halt its CPUs",
            where="--host",
            hint="use a QEMU host, or `interleave run --delays`",
        )
    for scenario in scenarios:
        if host.arch not in scenario.arches:
            raise ConfigError(
                f"{scenario.name} is for {', '.join(scenario.arches)}",
                where=f"host {host.name}",
                hint="choose another host",
            )
    return host.model_copy(update={"accel": "tcg"} | machine_for(scenarios))


def machine_for(scenarios: Sequence[Scenario]) -> dict[str, int]:
    """Return how many domUs and CPUs the scenarios need."""
    domus = max(len(set(scenario.domains) - {DOM0}) for scenario in scenarios)
    vcpus = max(2, *(scenario.vcpus for scenario in scenarios))
    return {"domus": domus, "domu_vcpus": 1, "cpus": vcpus + domus}


def by_machine(scenarios: Sequence[Scenario]) -> list[list[Scenario]]:
    """Group the scenarios that need the same machine: on a larger one they would be much slower."""
    groups: dict[tuple[int, ...], list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(tuple(machine_for([scenario]).values()), []).append(scenario)
    return list(groups.values())


def without_debugger(
    names: tuple[str, ...], scenarios: Sequence[Scenario], host: Host
) -> list[Scenario]:
    """Return those of ``scenarios`` that need no debugger, and for which ``host`` has the domains.

    ConfigError if another one was asked for by its name.
    """
    chosen, why = list[Scenario](), ""
    for scenario in scenarios:
        if not needs_no_debugger(scenario):
            why = f"{scenario.name} is about an interrupt, which only a debugger can force"
        elif isinstance(host, PhysicalHost) and scenario.vcpus > DOM0_VCPUS:
            why = f"{scenario.name} needs {scenario.vcpus} vCPUs of dom0, a server has fewer"
        elif isinstance(host, PhysicalHost) and len(scenario.domains) > 1 + host.domus:
            why = f"{scenario.name} needs a domU, and the host has none"
        else:
            chosen.append(scenario)
            continue
        if names != ("all",):
            raise ConfigError(why, where="SCENARIO", hint="run it on a QEMU host")
    return chosen


def forcible(
    names: tuple[str, ...], scenarios: Sequence[Scenario], tree: Path
) -> tuple[list[Scenario], str]:
    """Return those of ``scenarios`` that can be forced in ``tree``, and why the others cannot.

    ConfigError if one of those was asked for by its name, or if none is left.
    """
    if event_lock_is_rwlock(tree) is not False:  # without source: a binary, refused elsewhere
        return list(scenarios), ""
    # Where a writer waits for the other one, the steps of event_lock are part of the orders.
    chosen = [scenario for scenario in scenarios if scenario.writers < 2]
    others = ", ".join(scenario.name for scenario in scenarios if scenario.writers > 1)
    if not others:
        return chosen, ""
    why = "event_lock is a spinlock in this Xen; its steps can be forced only if it is a rwlock"
    if names != ("all",) or not chosen:
        raise ConfigError(
            f"{others}: {why}", where="SCENARIO", hint="take a tree from 4.17 on, or --delays"
        )
    return chosen, f"without {others}: {why}"


def check_fits(plan: Plan, schedule: ScheduleFile) -> None:
    """Raise ConfigError unless ``plan`` has the architecture and the lock of the schedule."""
    host = plan.hosts[0]
    if host.arch is not schedule.arch:
        raise ConfigError(
            f"the schedule is for {schedule.arch}, {host.name} is {host.arch}",
            where="--host",
            hint=f"choose a host for {schedule.arch}",
        )
    flavour = plan.hypervisor.flavour
    if flavour.design != schedule.design:
        raise ConfigError(
            f"the schedule is an order of {schedule.design}, "
            f"{flavour.name} is made from {flavour.design}",
            where="--flavour",
            hint=f"choose a flavour that is made from {schedule.design}",
        )


def find_scenarios(names: tuple[str, ...], arch: Arch | None = None) -> list[Scenario]:
    """Return the scenarios of these names; ``all``: those that there are for ``arch``.

    ConfigError if there is no such scenario.
    """
    if names == ("all",):
        return [each for each in SCENARIOS.values() if arch in each.arches]
    for name in names:
        if name not in SCENARIOS:
            raise ConfigError(
                f"no scenario {name}", where="SCENARIO", hint=f"there are {', '.join(SCENARIOS)}"
            )
    return [SCENARIOS[name] for name in names]
