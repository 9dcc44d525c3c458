"""``evtchn-harness interleave``: make a real Xen take the orders that the model hands out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.arch import Arch
from harness.cli import print_json
from harness.cli.options import Decorator, host_option, json_option, option, takes
from harness.config.host import QemuHost
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.options import XenOptions
from harness.config.physical import Host, PhysicalHost
from harness.interleave.scenarios import DOM0, SCENARIOS, Scenario
from harness.interleave.schedule import ScheduleFile, read_file
from harness.run.plan import Hypervisor, Plan, open_hypervisor
from harness.verdict import ConfigError, exit_code


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for each in (json_option, option("out"), option("lab"), host_option()):
        command = each(command)
    return command


def _times(default: int, help: str) -> Decorator:
    return click.option(
        "--repeat",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        metavar="N",
        help=help,
    )


@click.group("interleave")
def command() -> None:
    """Make a real Xen take the model's orders of a scenario, step by step, and compare."""


@command.command("list")
@json_option
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
@takes(XenOptions, "xen")
@click.option(
    "--preemptions",
    type=click.IntRange(0),
    metavar="N",
    help="Only the orders that interrupt a CPU at most N times.  "
    "[default: 2 where more than two CPUs meet, else all]",
)
@click.option(
    "--reduce",
    is_flag=True,
    help="Only one of several orders that differ in nothing that a CPU could see.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N orders.")
@_times(1, "How often each order is taken.")
@click.option(
    "--delays",
    is_flag=True,
    help="Random delays in a test build instead of a debugger.  [always on servers]",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    metavar="N",
    help="With --delays: how often all CPUs start at once.",
)
@_common
def run(names: tuple[str, ...], xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Make a real Xen take every order of SCENARIO, or of ``all``.

    Exit code 1: after some step, Xen was not in the state that the model says.  An order that
    the machine cannot take is called infeasible; it is no failure.

    With --delays there is no debugger: in a test build of Xen each CPU waits for a random time
    where it is about to touch the lock.  In each of --rounds all CPUs start at once, and Xen must
    end in a state in which some order of the model ends.
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
        hosts = [(_bare(host, some), some) for some in _by_machine(scenarios)]
        found = open_hypervisor(xen)
        machines = [(_plan(bare, found, options["out"]), some) for bare, some in hosts]
        return _tell(run_scenarios(machines, choice), as_json)
    if choice != Choice():
        raise ConfigError(
            "--preemptions, --reduce, --limit and --repeat choose orders",
            hint="by chance there are only --rounds",
        )
    scenarios = _by_chance(names, scenarios, host)
    if isinstance(host, QemuHost):
        host = host.model_copy(update=_machine(scenarios))
    found = open_hypervisor(xen, delays=True)
    plan = Plan(hosts=(host,), hypervisor=found, out=options["out"], delays=True)
    return _tell(run_by_chance(plan, scenarios, options["rounds"]), as_json)


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@takes(
    XenOptions,
    "xen",
    flavour={"help": "Another flavour.", "default": "", "unset": "as in FILE"},
)
@_times(1, "How often the order is taken.")
@host_option("Another host.", default="", unset="as in FILE")
@option("lab")
@option("out")
@json_option
def replay(file: Path, xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Take an order again that ``run`` has kept in FILE.

    Exit code 0: each time Xen was in the states that FILE has, and these are the model's.  1: it
    was not, or FILE is of an order in which Xen did not do what the model says.
    """
    from harness.interleave.session import replay_file

    schedule = read_file(file)
    host = find_host(load_lab(options["lab"]), options["host"] or schedule.host)
    bare = _bare(host, [SCENARIOS[schedule.scenario]])
    found = open_hypervisor(replace(xen, flavour=xen.flavour or schedule.flavour))
    plan = _plan(bare, found, options["out"])
    _fits(plan, schedule)
    document = replay_file(plan, schedule, options["repeat"])
    return _tell(document, as_json)


@command.command("expose")
@click.argument("name", metavar="SCENARIO")
@takes(
    XenOptions,
    "xen",
    flavour={"help": "The flavour that has the fault.", "required": True},
)
@_times(20, "How often the order that shows the fault is taken.")
@click.option(
    "--stress",
    default="load",
    show_default=True,
    metavar="NAME",
    help="What the order is compared with: load, close-duel or unmask-duel.",
)
@click.option(
    "--stress-repeat",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    metavar="N",
    help="How often the stress is run; 0: not at all.",
)
@click.option(
    "--patience",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For how long a stress may show nothing before it ends.",
)
@_common
def expose(name: str, xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Find an order of SCENARIO that shows the fault, and say how much sooner than stress does.

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
    plan = _plan(_bare(host, [scenario]), open_hypervisor(xen), options["out"])
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
        click.echo(f"no order of {name} shows anything in {xen.flavour}")
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
@json_option
def suggest(run: Path, as_json: bool) -> int:
    """Say which scenarios to try after the run in directory RUN failed."""
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


def _plan(bare: Host, xen: Hypervisor, out: Path | None) -> Plan:
    return Plan(hosts=(bare,), hypervisor=xen, out=out, snapshot=True, stub=True)


def _bare(host: Host, scenarios: Sequence[Scenario]) -> Host:
    """Return the host with the domUs and the CPUs that the scenarios need, no more.

    ConfigError where no debugger can hold its CPUs, or a scenario is for another architecture.
    """
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
    return host.model_copy(update={"accel": "tcg"} | _machine(scenarios))


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
    from harness.run.machines import DOM0_VCPUS

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
    flavour = plan.hypervisor.flavour
    if flavour.design != schedule.design:
        raise ConfigError(
            f"the schedule is an order of {schedule.design}, "
            f"{flavour.name} is made from {flavour.design}",
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
