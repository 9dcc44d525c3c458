"""``evtchn-harness interleave``: make a real Xen take the orders that the model hands out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.arch import Arch
from harness.cli import print_json
from harness.cli.tree import tree_options
from harness.config.host import QemuHost
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.physical import Host, PhysicalHost
from harness.hypervisor import flavour as flavours
from harness.interleave.scenarios import DOM0, SCENARIOS, Scenario
from harness.interleave.schedule import ScheduleFile, read_file
from harness.run.plan import DEFAULT_FLAVOUR, Plan, Tree
from harness.verdict import ConfigError, exit_code

_OPTIONS = (
    click.option("--host", default="qemu-x86_64", show_default=True, metavar="NAME"),
    click.option("--lab", type=click.Path(path_type=Path), help="lab.yaml with more hosts."),
    click.option("--out", type=click.Path(path_type=Path), help="New directory for the results."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
)


def _common(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group("interleave")
def command() -> None:
    """Walk the model's orders of a scenario on a real Xen, step by step, and compare."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def list_(as_json: bool) -> int:
    """List the scenarios, and how many orders the model has of each, by lock flavour."""
    from harness.interleave.session import orders_by_design

    rows = [
        {
            "name": scenario.name,
            "what": scenario.what,
            "cpus": len(scenario.lanes),
            "orders": orders_by_design(scenario),
        }
        for scenario in SCENARIOS.values()
    ]
    if as_json:
        print_json({"scenarios": rows})
        return 0
    designs = list(orders_by_design(next(iter(SCENARIOS.values()))))
    table = Table("scenario", "what meets", "CPUs", *designs)
    for scenario in SCENARIOS.values():
        counts = (str(count) for count in orders_by_design(scenario).values())
        table.add_row(scenario.name, scenario.what, str(len(scenario.lanes)), *counts)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


@command.command("run")
@click.argument("names", metavar="SCENARIO...", nargs=-1, required=True)
@click.option("--flavour", default=DEFAULT_FLAVOUR, show_default=True, help="Lock flavour.")
@click.option("--preemptions", type=click.IntRange(0), metavar="N", help="At most so many.  [all]")
@click.option("--reduce", is_flag=True, help="One order of those that differ in nothing.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N orders only.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, metavar="N")
@click.option("--delays", is_flag=True, help="By chance, in a test build.  [on servers]")
@click.option("--rounds", type=click.IntRange(1), default=300, show_default=True, metavar="N")
@tree_options
@_common
def run(names: tuple[str, ...], tree: Tree, as_json: bool, **options: Any) -> int:
    """Walk the orders of SCENARIO (or ``all``) on a real Xen.

    Exit code 1: an order did not go as the model says.  An order that the machine cannot take
    is infeasible, never a failure.

    With --delays no debugger is needed: the Xen is a test build in which CPUs dawdle where they
    touch the lock, and each of --rounds lets all of them go at once.  How a round ends must be as
    some order of the model ends.
    """
    from harness.interleave.by_chance import run_by_chance
    from harness.interleave.session import Choice, run_scenarios

    if options["reduce"] and options["preemptions"] is not None:
        raise ConfigError(
            "--reduce and --preemptions exclude each other",
            hint="the one order that --reduce keeps may have too many preemptions",
        )
    choice = Choice(options["preemptions"], options["reduce"], options["limit"], options["repeat"])
    host = find_host(load_lab(options["lab"]), options["host"])
    scenarios = _scenarios(names, host.arch)
    if not options["delays"] and isinstance(host, QemuHost):
        machines = [
            (_plan(host, options["flavour"], tree, some, options["out"]), some)
            for some in _by_machine(scenarios)
        ]
        return _tell(run_scenarios(machines, choice), as_json)
    if choice != Choice():
        raise ConfigError(
            "--preemptions, --reduce, --limit and --repeat choose orders",
            hint="by chance there are only --rounds",
        )
    scenarios = _by_chance(names, scenarios, host)
    if isinstance(host, QemuHost):
        host = host.model_copy(update=_machine(scenarios))
    plan = Plan((host,), options["flavour"], tree, out=options["out"], delays=True)
    plan.check()
    return _tell(run_by_chance(plan, scenarios, options["rounds"]), as_json)


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--flavour", help="Another flavour of the same lock.  [the file's]")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, metavar="N")
@tree_options
@click.option("--host", metavar="NAME", help="Another host.  [the file's]")
@click.option("--lab", type=click.Path(path_type=Path), help="lab.yaml with more hosts.")
@click.option("--out", type=click.Path(path_type=Path), help="New directory for the results.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def replay(file: Path, tree: Tree, as_json: bool, **options: Any) -> int:
    """Take the steps of a schedule again that ``run`` has kept.

    Exit code 0: it went as in FILE, every time, and FILE is of an order that was walked.  1: as
    in FILE, which is of a mismatch, or otherwise than in FILE.
    """
    from harness.interleave.session import replay_file

    schedule = read_file(file)
    host = find_host(load_lab(options["lab"]), options["host"] or schedule.host)
    scenarios = [SCENARIOS[schedule.scenario]]
    flavour = options["flavour"] or schedule.flavour
    plan = _plan(host, flavour, tree, scenarios, options["out"])
    _fits(plan, schedule)
    document = replay_file(plan, schedule, options["repeat"])
    return _tell(document, as_json)


@command.command("expose")
@click.argument("name", metavar="SCENARIO")
@click.option("--flavour", required=True, help="The flavour with a fault.")
@click.option("--repeat", type=click.IntRange(1), default=20, show_default=True, metavar="N")
@click.option("--stress", default="load", show_default=True, help="load, close-duel, unmask-duel.")
@click.option("--stress-repeat", type=click.IntRange(0), default=3, show_default=True, metavar="N")
@click.option("--patience", type=float, default=60.0, show_default=True, help="Seconds of stress.")
@tree_options
@_common
def expose(name: str, tree: Tree, as_json: bool, **options: Any) -> int:
    """Find an order of SCENARIO that shows the fault, take it N times, and stress beside it.

    Exit code 1: the fault was shown.
    """
    from harness.interleave.expose import STRESSES
    from harness.interleave.session import Choice, run_expose
    from harness.verdict import Verdict

    if options["stress"] not in STRESSES:
        known = ", ".join(STRESSES)
        raise ConfigError(
            f"no stress {options['stress']}", where="--stress", hint=f"there are {known}"
        )
    (scenario,) = _scenarios((name,))
    host = find_host(load_lab(options["lab"]), options["host"])
    plan = _plan(host, options["flavour"], tree, [scenario], options["out"])
    document = run_expose(
        plan,
        scenario,
        Choice(),
        options["stress"],
        forced=options["repeat"],
        stressed=options["stress_repeat"],
        patience=options["patience"],
    )
    if as_json:
        print_json(document)
    elif not document["exposed"]:
        click.echo(f"no order of {name} shows anything in {options['flavour']}")
    else:
        click.echo(
            f"{document['reproduced']} of {options['repeat']} by its schedule, median "
            f"{document['median_seconds_forced']} s; {document['shown_under_stress']} of "
            f"{options['stress_repeat']} under stress, median "
            f"{document['median_seconds_stressed']} s: {document['times_faster']} times faster"
        )
    return exit_code(Verdict(document["verdict"]))


@command.command("suggest")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def suggest(run: Path, as_json: bool) -> int:
    """Say which scenarios are worth walking after the run in directory RUN failed."""
    from harness.interleave.suggest import meetings
    from harness.results.store import load
    from harness.run.old_runs import evidence_of
    from harness.verdict import Verdict

    failed = [
        (host.name, test, evidence_of(test, run))
        for host in load(run).hosts
        for test in host.tests
        if test.verdict is Verdict.FAIL
    ]
    found = [
        {"host": host, "test": test.name, **asdict(meeting)}
        for host, test, evidence in failed
        for meeting in meetings(evidence)
    ]
    for host, test, evidence in failed:
        if evidence is None:
            click.echo(
                f"{host} {test.name}: no evidence of it was kept (an older harness ran it)",
                err=True,
            )
    if as_json:
        print_json({"meetings": found})
        return 0
    for each in found:
        click.echo(f"{each['host']} {each['test']}: {each['one']} met {each['other']}")
        click.echo(f"    evtchn-harness interleave run {' '.join(each['scenarios'])}")
    if not found:
        click.echo("no witness tells of two operations that met as in a scenario")
    return 0


def _plan(
    host: Host, flavour: str, tree: Tree, scenarios: Sequence[Scenario], out: Path | None
) -> Plan:
    """Return the plan: the host with the domUs and the CPUs that the scenarios need, no more."""
    if not isinstance(host, QemuHost):
        raise ConfigError(
            f"{host.name} is a server: no debugger holds its CPUs still",
            where="--host",
            hint="`interleave run` goes by chance there",
        )
    for scenario in scenarios:
        if host.arch not in scenario.arches:
            raise ConfigError(
                f"{scenario.name} is for {', '.join(scenario.arches)}",
                where=f"host {host.name}",
                hint="choose another host",
            )
    bare = host.model_copy(update={"accel": "tcg"} | _machine(scenarios))
    plan = Plan((bare,), flavour, tree, out=out, snapshot=True, stub=True)
    plan.check()
    return plan


def _machine(scenarios: Sequence[Scenario]) -> dict[str, int]:
    """Return the domUs and the CPUs that the scenarios need, no more."""
    domus = max(len(set(scenario.domains) - {DOM0}) for scenario in scenarios)
    vcpus = max(2, *(scenario.vcpus for scenario in scenarios))
    return {"domus": domus, "domu_vcpus": 1, "cpus": vcpus + domus}


def _by_machine(scenarios: Sequence[Scenario]) -> list[list[Scenario]]:
    """Return the scenarios in groups that need the same machine: a larger one is much slower."""
    groups: dict[tuple[int, ...], list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(tuple(_machine([scenario]).values()), []).append(scenario)
    return list(groups.values())


def _by_chance(names: tuple[str, ...], scenarios: Sequence[Scenario], host: Host) -> list[Scenario]:
    """Return those of ``scenarios`` that need no debugger, and that a server has the domains for.

    ConfigError for one that was asked for by its name.
    """
    from harness.interleave.chance import possible
    from harness.run.rig import DOM0_VCPUS

    chosen, why = list[Scenario](), ""
    for scenario in scenarios:
        if not possible(scenario):
            why = f"{scenario.name} is about an interrupt: by chance it cannot be had"
        elif isinstance(host, PhysicalHost) and scenario.vcpus > DOM0_VCPUS:
            why = f"{scenario.name} takes {scenario.vcpus} vCPUs of dom0, a server's has fewer"
        elif isinstance(host, PhysicalHost) and len(scenario.domains) > 1 + host.domus:
            why = f"{scenario.name} is about a domU, and the host has none"
        else:
            chosen.append(scenario)
            continue
        if names != ("all",):
            raise ConfigError(why, where="SCENARIO", hint="walk it on a QEMU host")
    return chosen


def _fits(plan: Plan, schedule: ScheduleFile) -> None:
    """ConfigError unless ``plan`` runs what the schedule is an order of."""
    host = plan.hosts[0]
    if host.arch is not schedule.arch:
        raise ConfigError(
            f"the schedule is for {schedule.arch}, {host.name} is {host.arch}", where="--host"
        )
    design = flavours.find(plan.flavour, plan.tree.source()).design
    if design != schedule.design:
        raise ConfigError(
            f"the schedule is an order of {schedule.design}, {plan.flavour} is made from {design}",
            where="--flavour",
        )


def _scenarios(names: tuple[str, ...], arch: Arch | None = None) -> list[Scenario]:
    if names == ("all",):
        return [each for each in SCENARIOS.values() if arch in each.arches]
    for name in names:
        if name not in SCENARIOS:
            raise ConfigError(
                f"no scenario {name}", where="SCENARIO", hint=f"there are {', '.join(SCENARIOS)}"
            )
    return [SCENARIOS[name] for name in names]


def _tell(document: dict[str, Any], as_json: bool) -> int:
    from harness.verdict import Verdict

    if as_json:
        print_json(document)
    elif document["forced_by"] == "delays":
        for part in document["scenarios"]:
            met = sum(bool(times) for times in part["ends"].values()) - len(part["mismatches"])
            click.echo(
                f"{part['verdict']}  {part['scenario']}: {part['walked']} rounds by chance, "
                f"{met} of the model's {len(part['ends']) - len(part['mismatches'])} ends met, "
                f"{part['schedules_per_second']} rounds a second  {part['message']}"
            )
            for each in part["mismatches"]:
                click.echo(f"      {each['times']} x {each['end']}")
    else:
        for part in document["scenarios"]:
            click.echo(
                f"{part['verdict']}  {part['scenario']}: {part['walked']} of {part['schedules']} "
                f"walked, {len(part['infeasible'])} infeasible, {len(part['mismatches'])} "
                f"mismatches, {part['schedules_per_second']} a second  {part['page']}"
            )
            for each in part["mismatches"][:3]:
                click.echo(f"      schedule {each['schedule']}: {each['why']}")
    return exit_code(Verdict(document["verdict"]))
