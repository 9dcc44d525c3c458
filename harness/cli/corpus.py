"""``evtchn-harness corpus``: do the good flavours pass, and are the bad ones caught?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.cli import print_json
from harness.config.host import BUILT_IN
from harness.config.lab import host as find_host
from harness.config.lab import load_lab, write_without_domus
from harness.corpus.entry import Entry, entries
from harness.corpus.judge import Cell, exit_code
from harness.corpus.loop import PAGE, run_corpus
from harness.data import TESTCASES
from harness.hypervisor import source
from harness.results import directory
from harness.run import child
from harness.verdict import ConfigError, Verdict


@click.command()
@click.option("--entry", "names", multiple=True, metavar="NAME", help="Repeatable.  [all]")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Repeatable.  [all built in]")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, metavar="N")
@click.option("--no-snapshot", is_flag=True, help="All tests share one boot, none is pristine.")
@click.option("--lab", type=click.Path(path_type=Path), help="lab.yaml with more hosts.")
@click.option("--out", type=click.Path(path_type=Path), help="New directory for the results.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(
    names: tuple[str, ...],
    hosts: tuple[str, ...],
    repeat: int,
    no_snapshot: bool,
    lab: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Run flavours x tests: the good ones must pass, the known-bad ones must be caught.

    Exit code 1: a good one failed, or a bad one was missed that the machine can show.
    """
    known = entries(source.from_apt().release)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"no entry {unknown[0]}", where="--entry", hint=f"there are {', '.join(known)}"
        )
    known_hosts = load_lab(lab)
    chosen = [find_host(known_hosts, name) for name in hosts or tuple(BUILT_IN)]
    place = directory.create(out).path
    words = ["--keep-going", *([] if no_snapshot else ["--snapshot"])]

    def run(entry: Entry, host: str, repeat: int, folder: Path) -> list[dict[str, Any]]:
        click.echo(f"-- {entry.name} on {host}", err=True)
        options = [f"--host={host}", f"--flavour={entry.name}", f"--repeat={repeat}"]
        options.append(f"--out={folder}")
        file = write_without_domus(known_hosts, place) if entry.without_domus else lab
        options += [f"--lab={file}"] if file else []
        if entry.forced_by:
            return _forced(entry.forced_by, options)
        nodes = [str(TESTCASES / entry.caught_by)] if entry.caught_by else []
        ran = child.run([*words, *options, *nodes]).get("hosts") or [{"tests": []}]
        return list(ran[0]["tests"])

    cells = run_corpus(
        [known[name] for name in names or tuple(known)],
        {host.name: host.arch for host in chosen},
        repeat=repeat,
        out=place,
        run=run,
        notice=lambda cell: click.echo(
            f"-- {cell.entry} on {cell.host}: {cell.outcome} {cell.explanation}", err=True
        ),
    )
    if as_json:
        print_json([asdict(cell) for cell in cells])
    else:
        _print(cells)
        click.echo(str(place / PAGE))
    return exit_code(cells)


def _forced(scenario: str, options: Sequence[str]) -> list[dict[str, Any]]:
    """Take the order that shows the fault, as often as asked; each is a test."""
    words = ("interleave", "expose", scenario)
    found = child.run([*options, "--stress-repeat=0"], words)
    name = f"forced-{scenario}"
    if "exposed" not in found:
        message = str(found.get("error", "the scenario was not walked"))
        return [_test(name, Verdict.MISS, 0.0, message)]
    if not found["exposed"]:
        return [_test(name, Verdict.PASS, 0.0, "no order shows anything")]
    return [
        _test(name, Verdict.FAIL if each["how"] else Verdict.PASS, each["seconds"], each["how"])
        for each in found["forced"]
    ]


def _test(name: str, verdict: Verdict, seconds: float, message: str) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": verdict,
        "seconds": seconds,
        "message": message,
        "story": "",
        "artifacts": [],
    }


def _print(cells: Sequence[Cell]) -> None:
    table = Table("host", "entry", "kind", "outcome", "seconds", "hits", "95 %", "explanation")
    for cell in cells:
        low, high = cell.probability
        table.add_row(
            cell.host,
            cell.entry,
            cell.kind,
            cell.outcome,
            f"{cell.seconds:.1f}",
            f"{cell.hits}/{cell.tries}",
            "" if cell.good or not cell.tries else f"{100 * low:.0f}-{100 * high:.0f} %",
            cell.explanation,
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)
