# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness interleave``: force a real Xen to take steps in the orders of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from harness.cli import echo, print_json, warn
from harness.cli.options import Decorator, host_option, json_option, option, takes
from harness.cli.tables import print_table
from harness.config.host import QemuHost
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.options import XenOptions
from harness.interleave.scenarios import SCENARIOS
from harness.interleave.schedule_file import read_file
from harness.run.plan import Plan, open_hypervisor
from harness.verdict import ConfigError, exit_code


def _host_and_output(command: Callable[..., Any]) -> Callable[..., Any]:
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
    """Force a real Xen to take the steps of a scenario in each order that the model has.

    After each step, Xen's memory is compared with the model.
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the scenarios, and for each lock flavour how many orders `run` takes by default."""
    from harness.interleave.selection import orders_by_design

    rows = [
        {
            "name": scenario.name,
            "what": scenario.description,
            "cpus": len(scenario.threads),
            "orders": orders_by_design(scenario),
        }
        for scenario in SCENARIOS.values()
    ]
    if as_json:
        print_json({"scenarios": rows})
        return 0
    designs = list(orders_by_design(next(iter(SCENARIOS.values()))))
    table = []
    for scenario in SCENARIOS.values():
        counts = (str(count) for count in orders_by_design(scenario).values())
        table.append([scenario.name, scenario.description, str(len(scenario.threads)), *counts])
    print_table(["scenario", "what happens at once", "CPUs", *designs], table, 160)
    return 0


@command.command("run")
@click.argument("names", metavar="SCENARIO...", nargs=-1, required=True)
@takes(XenOptions, "xen")
@click.option(
    "--preemptions",
    type=click.IntRange(0),
    metavar="N",
    help="Only the orders in which a CPU is interrupted by another one at most N times.  "
    "[default: 2 if the scenario has more than two CPUs, else all orders]",
)
@click.option(
    "--reduce",
    is_flag=True,
    help="If orders differ only in steps that do not affect each other, take one of them.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take only the first N orders.")
@_times(1, "How many times each order is taken.")
@click.option(
    "--delays",
    is_flag=True,
    help="Use a test build of Xen with random delays, not a debugger.  [always on servers]",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    metavar="N",
    help="With --delays: how many times all CPUs start together.",
)
@_host_and_output
def run(names: tuple[str, ...], xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Force a real Xen to take every order of each SCENARIO, or of ``all`` scenarios.

    Exit code 1: after a step or at the end, Xen was not in the state that the model says.  An
    order that Xen cannot take is reported as infeasible; that is no failure.

    With --delays there is no debugger.  Xen is a test build in which each CPU waits for a random
    time before it accesses the lock.  All CPUs start together, --rounds times.  Each time, the
    results and the state of the port must be those at the end of some order of the model.
    """
    from harness.interleave.forced_run import run_scenarios
    from harness.interleave.hosts import (
        by_machine,
        find_scenarios,
        forced_plan,
        forcible,
        machine_for,
        with_debugger,
        without_debugger,
    )
    from harness.interleave.randomized_run import run_randomized
    from harness.interleave.selection import OrderSelection

    if options["reduce"] and options["preemptions"] is not None:
        raise ConfigError(
            "--reduce and --preemptions exclude each other",
            hint="the order that --reduce keeps may have more preemptions: give only one of them",
        )
    selection = OrderSelection(
        options["preemptions"], options["reduce"], options["limit"], options["repeat"]
    )
    host = find_host(load_lab(options["lab"]), options["host"])
    scenarios = find_scenarios(names, host.arch)
    if not options["delays"] and isinstance(host, QemuHost):
        with_debugger(host, scenarios)
        found = open_hypervisor(xen)
        scenarios, left_out = forcible(names, scenarios, found.source.tree)
        warn([left_out] if left_out else [])
        hosts = [(with_debugger(host, some), some) for some in by_machine(scenarios)]
        machines = [(forced_plan(bare, found, options["out"]), some) for bare, some in hosts]
        return _print(run_scenarios(machines, selection), as_json)
    if selection != OrderSelection():
        raise ConfigError(
            "--preemptions, --reduce, --limit and --repeat choose orders, but without a "
            "debugger no order can be forced",
            hint="leave them out; --rounds says how long to try",
        )
    scenarios = without_debugger(names, scenarios, host)
    if isinstance(host, QemuHost):
        host = host.model_copy(update=machine_for(scenarios))
    found = open_hypervisor(xen, delays=True)
    plan = Plan(hosts=(host,), hypervisor=found, out=options["out"], delays=True)
    return _print(run_randomized(plan, scenarios, options["rounds"]), as_json)


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@takes(
    XenOptions,
    "xen",
    flavour={"help": "Run this flavour.", "default": "", "unset": "as in FILE"},
)
@_times(1, "How many times the order is taken.")
@host_option("Run on this host.", default="", unset="as in FILE")
@option("lab")
@option("out")
@json_option
def replay(file: Path, xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Force the order in FILE again, which ``run`` has written.

    Exit code 0: each time all values read from memory were those in FILE, and those of the model.
    1: some differed from FILE or from the model.
    """
    from harness.interleave.forced_run import replay_file
    from harness.interleave.hosts import check_fits, forced_plan, forcible, with_debugger

    schedule = read_file(file)
    host = find_host(load_lab(options["lab"]), options["host"] or schedule.host)
    bare = with_debugger(host, [SCENARIOS[schedule.scenario]])
    found = open_hypervisor(replace(xen, flavour=xen.flavour or schedule.flavour))
    forcible((schedule.scenario,), [SCENARIOS[schedule.scenario]], found.source.tree)
    plan = forced_plan(bare, found, options["out"])
    check_fits(plan, schedule)
    document = replay_file(plan, schedule, options["repeat"])
    return _print(document, as_json)


@command.command("expose")
@click.argument("name", metavar="SCENARIO")
@takes(
    XenOptions,
    "xen",
    flavour={"help": "The flavour that has the fault.", "required": True},
)
@_times(20, "How many times the order that shows the fault is taken.")
@click.option(
    "--stress",
    default="load",
    show_default=True,
    metavar="NAME",
    help="The stress to compare with: load, close-duel or unmask-duel.",
)
@click.option(
    "--stress-repeat",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    metavar="N",
    help="How many times to stress the machine; 0: not at all.",
)
@click.option(
    "--patience",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Stop a stress that has not shown the fault after so many seconds.",
)
@_host_and_output
def expose(name: str, xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Find an order of SCENARIO that shows the fault; measure how much faster it is than stress.

    Exit code 1: an order shows the fault.
    """
    from harness.interleave.hosts import find_scenarios, forced_plan, forcible, with_debugger
    from harness.interleave.reproduce import STRESSES
    from harness.interleave.reproduce_run import run_reproduce
    from harness.interleave.selection import OrderSelection
    from harness.verdict import Verdict

    if options["stress"] not in STRESSES:
        known = ", ".join(STRESSES)
        raise ConfigError(
            f"no stress {options['stress']}", where="--stress", hint=f"there are {known}"
        )
    (scenario,) = find_scenarios((name,))
    host = find_host(load_lab(options["lab"]), options["host"])
    bare, found = with_debugger(host, [scenario]), open_hypervisor(xen)
    forcible((name,), [scenario], found.source.tree)
    plan = forced_plan(bare, found, options["out"])
    document = run_reproduce(
        plan,
        scenario,
        OrderSelection(),
        options["stress"],
        forced=options["repeat"],
        stressed=options["stress_repeat"],
        stress_timeout=options["patience"],
    )
    if as_json:
        print_json(document)
    elif not document["exposed"]:
        echo(f"no order of {name} shows a fault in {xen.flavour}")
    else:
        echo(
            f"{document['reproduced']} of {options['repeat']} by the forced order, median "
            f"{document['median_seconds_forced']} s; {document['shown_under_stress']} of "
            f"{options['stress_repeat']} under stress, median "
            f"{document['median_seconds_stressed']} s: {document['times_faster']} times faster"
        )
    return exit_code(Verdict(document["verdict"]))


@command.command("reorder")
@takes(XenOptions, "xen")
@_times(20, "How many times each order is forced.")
@host_option("Run on this host, which is arm64 under QEMU.", default="qemu-arm64")
@option("lab")
@option("out")
@json_option
def reorder(xen: XenOptions, as_json: bool, **options: Any) -> int:
    """Make Xen on arm64 take the orders that Armv8 allows and its machine code leaves open.

    They are the traces of `model binary`.  Where barriers are, there are none, and nothing is
    booted.  Exit code 1: an order showed in what Xen then did.
    """
    from harness.interleave.hosts import forced_plan
    from harness.interleave.reorder_run import machine_of, run_reorder

    host = find_host(load_lab(options["lab"]), options["host"])
    bare = machine_of(host) if isinstance(host, QemuHost) else host
    plan = forced_plan(bare, open_hypervisor(xen), options["out"])
    document = run_reorder(plan, options["repeat"])
    if as_json:
        print_json(document)
    else:
        _print_reorder(document)
    return exit_code(document["verdict"])


@command.command("suggest")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def suggest(run: Path, as_json: bool) -> int:
    """Suggest scenarios that may show the failures of the run in directory RUN within seconds."""
    from harness.evidence import Disallowed
    from harness.interleave.suggest import MOST, overlaps
    from harness.results.store import load
    from harness.run.old_runs import evidence_of
    from harness.verdict import Verdict

    read = load(run)
    warn(read.problems)
    if not read.hosts:
        what = "no line of the journal tells of a host" if read.problems else "the run has no host"
        raise ConfigError(what, where=str(run), hint="give the directory of another run")
    failed = [
        (host.name, test, evidence_of(test, run))
        for host in read.hosts
        for test in host.tests
        if test.verdict is Verdict.FAIL
    ]
    found = [
        {"host": host, "test": test.name, **asdict(overlap)}
        for host, test, evidence in failed
        for overlap in overlaps(evidence)
    ]
    for host, test, evidence in failed:
        if isinstance(evidence, Disallowed) and len(evidence.operations) > MOST:
            warn([f"{host} {test.name}: only the first {MOST} operations were looked at"])
        if evidence is None:
            echo(
                f"{host} {test.name}: no evidence of the failure (an older harness ran it)",
                err=True,
            )
    if as_json:
        print_json({"meetings": found})
        return 0
    for each in found:
        echo(f"{each['host']} {each['test']}: {each['one']} overlapped {each['other']}")
        echo(f"    evtchn-harness interleave run {' '.join(each['scenarios'])}")
    if not found:
        echo("no scenario makes two calls that overlapped in a failure of this run")
    return 0


def _print_reorder(document: dict[str, Any]) -> None:
    if not document["left_open"]:
        echo(f"`model binary` says {document['binary']} and has no such order: nothing is forced")
    for what in document["without_scenario"]:
        echo(f"no scenario yet for {what}")
    for part in document["scenarios"]:
        echo(f"{part['verdict']}  {part['scenario']}: {part['moved']}: {part['what']}")
        echo(f"      {part['shown']} of {part['tried']}: {part['message'] or 'nothing was seen'}")
        for step in part["steps"]:
            echo(f"      {step}")


def _print(document: dict[str, Any], as_json: bool) -> int:
    from harness.verdict import Verdict

    if as_json:
        print_json(document)
    elif document["forced_by"] == "delays":
        for part in document["scenarios"]:
            seen = sum(bool(times) for times in part["ends"].values()) - len(part["mismatches"])
            echo(
                f"{part['verdict']}  {part['scenario']}: {part['walked']} rounds, "
                f"{seen} of the model's {len(part['ends']) - len(part['mismatches'])} ends seen, "
                f"{part['schedules_per_second']} rounds a second  {part['message']}"
            )
            for each in part["mismatches"]:
                echo(f"      {each['times']} x {each['end']}")
    else:
        for part in document["scenarios"]:
            echo(
                f"{part['verdict']}  {part['scenario']}: {part['walked']} of {part['schedules']} "
                f"walked, {len(part['infeasible'])} infeasible, {len(part['mismatches'])} "
                f"mismatches, {part['schedules_per_second']} a second  {part['page']}"
            )
            for each in part["mismatches"][:3]:
                echo(f"      schedule {each['schedule']}: {each['why']}")
    return exit_code(Verdict(document["verdict"]))
