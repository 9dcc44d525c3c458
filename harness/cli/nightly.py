# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness nightly``: run a matrix of cells, and report what is new since last night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli import echo, print_json
from harness.cli.options import json_option, option
from harness.config.host import QemuHost
from harness.config.lab import load_lab
from harness.config.nightly import NightlyPlan
from harness.config.physical import Host
from harness.data import TESTCASES
from harness.machine.cpu_slots import slots
from harness.nightly.collect import CollectRunner
from harness.nightly.loop import Runner, open_night, run_night
from harness.nightly.plan import limit_to_hosts, read_plan
from harness.nightly.report_files import document, write_night
from harness.nightly.runner import ChildRunner
from harness.nightly.store import Store

_COPIES = 4  # runs that --collect copies at a time


@click.command()
@click.argument("plan_file", metavar="PLAN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--store",
    "home",
    type=click.Path(path_type=Path),
    default=Path("nightly"),
    show_default=True,
    metavar="DIR",
    help="Directory in which the results of all nights are kept.",
)
@option(
    "host",
    help="Host of the plan to test; give the option again for each further one.",
    unset="all",
)
@option("lab")
@click.option(
    "--resume",
    is_flag=True,
    help="Only resume a night that was stopped; if there is none, do nothing.",
)
@click.option(
    "--collect",
    "shards",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Boot nothing, take the runs of this store; give the option again for each further one.",
)
@json_option
def command(
    plan_file: Path,
    home: Path,
    host: tuple[str, ...],
    lab: Path | None,
    resume: bool,
    shards: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run every combination of PLAN's hosts, Xens and suites; say what is new since last night.

    If a night was stopped, the same command resumes it.  Exit code 1: a test FAILed, or Xen
    has become slower.
    """
    known = load_lab(lab)
    plan = read_plan(plan_file, known, TESTCASES)
    if host:
        plan = limit_to_hosts(plan, host)
    runner: Runner = ChildRunner(lab, plan_file.absolute().parent, TESTCASES, _notice)
    parallel = plan.parallel or _parallel([known[name] for name in plan.hosts])
    if shards:
        runner, parallel = CollectRunner(shards), _COPIES
    with Store(home, write=True) as store:
        return _night(plan, store, runner, parallel, resume=resume, as_json=as_json)


def _parallel(hosts: Sequence[Host]) -> int:
    """Return how many of ``hosts`` may run at a time: all real ones, and as many emulated ones as
    this computer has CPUs for."""
    cpus = [host.cpus for host in hosts if isinstance(host, QemuHost)]
    return len(hosts) - len(cpus) + (slots(min(cpus)) if cpus else 0)


def _night(
    plan: NightlyPlan, store: Store, runner: Runner, parallel: int, *, resume: bool, as_json: bool
) -> int:
    night = open_night(plan, store, _notice, resume=resume)
    if night is None:
        _notice("there is no stopped night to resume")
        if as_json:
            print_json({"verdict": "SKIP", "message": "no night was stopped"})
        return 0
    try:
        run_night(plan, night, store, runner, parallel=parallel, notice=_notice)
    except KeyboardInterrupt:
        write_night(store, night, plan.kcidb)
        _notice(f"stopped; the same command resumes night {night.id}")
        raise
    report = write_night(store, night, plan.kcidb)
    if as_json:
        print_json(document(report, store.home))
    else:
        echo((store.home / "nights" / night.id / "summary.txt").read_text(), nl=False)
    return report.exit_code


def _notice(text: str) -> None:
    echo(f"-- {text}", err=True)
