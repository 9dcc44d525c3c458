"""``evtchn-harness nightly``: a matrix of runs, and what is new since the nights before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli import print_json
from harness.config.host import QemuHost
from harness.config.lab import load_lab
from harness.config.nightly import NightlyPlan
from harness.config.physical import Host
from harness.data import TESTCASES
from harness.machine.slots import slots
from harness.nightly.child import ChildRunner
from harness.nightly.collect import CollectRunner
from harness.nightly.loop import Runner, open_night, run_night
from harness.nightly.plan import only, read_plan
from harness.nightly.reports import document, write_night
from harness.nightly.store import Store

_COPIES = 4  # at a time, when the runs are there already


@click.command()
@click.argument("plan_file", metavar="PLAN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--store",
    "home",
    type=click.Path(path_type=Path),
    default=Path("nightly"),
    show_default=True,
    help="Directory of all nights.",
)
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Repeatable.  [all]")
@click.option("--lab", type=click.Path(path_type=Path), help="lab.yaml with more hosts.")
@click.option("--resume", is_flag=True, help="Only go on with a night that was stopped.")
@click.option(
    "--collect",
    "shards",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Repeatable: take the runs of that store, boot nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(
    plan_file: Path,
    home: Path,
    hosts: tuple[str, ...],
    lab: Path | None,
    resume: bool,
    shards: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run every cell of hosts x Xens x suites, keep the results, say what is new.

    A night that was stopped goes on where it was.  Exit code 1: a test FAILed, or Xen became
    slower tonight.
    """
    known = load_lab(lab)
    plan = read_plan(plan_file, known, TESTCASES)
    if hosts:
        plan = only(plan, hosts)
    runner: Runner = ChildRunner(lab, plan_file.absolute().parent, TESTCASES, _notice)
    parallel = plan.parallel or _parallel([known[name] for name in plan.hosts])
    if shards:
        runner, parallel = CollectRunner(shards), _COPIES
    with Store(home, write=True) as store:
        return _night(plan, store, runner, parallel, resume=resume, as_json=as_json)


def _parallel(hosts: Sequence[Host]) -> int:
    """Return how many of ``hosts`` may run at once: as many emulated ones as there are CPUs for."""
    cpus = [host.cpus for host in hosts if isinstance(host, QemuHost)]
    return len(hosts) - len(cpus) + (slots(min(cpus)) if cpus else 0)


def _night(
    plan: NightlyPlan, store: Store, runner: Runner, parallel: int, *, resume: bool, as_json: bool
) -> int:
    night = open_night(plan, store, _notice, resume=resume)
    if night is None:
        _notice("no night was stopped")
        if as_json:
            print_json({"verdict": "SKIP", "message": "no night was stopped"})
        return 0
    try:
        run_night(plan, night, store, runner, parallel=parallel, notice=_notice)
    except KeyboardInterrupt:
        write_night(store, night, plan.kcidb)
        _notice(f"stopped; the same command goes on with night {night.id}")
        raise
    report = write_night(store, night, plan.kcidb)
    if as_json:
        print_json(document(report, store.home))
    else:
        click.echo((store.home / "nights" / night.id / "summary.txt").read_text(), nl=False)
    return report.exit_code


def _notice(text: str) -> None:
    click.echo(f"-- {text}", err=True)
