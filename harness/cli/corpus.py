"""``evtchn-harness corpus``: do the good flavours pass, and are the bad ones caught?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from harness.cli import print_json
from harness.cli.run import TESTCASES
from harness.config.host import BUILT_IN
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.physical import Host
from harness.corpus.entry import Entry, entries
from harness.corpus.judge import Cell, exit_code
from harness.corpus.loop import PAGE, run_corpus
from harness.hypervisor import source
from harness.results import directory
from harness.verdict import EXIT_INTERRUPTED, EXIT_USAGE, ConfigError

_END_SECONDS = 60.0


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
    chosen = [find_host(known_hosts, name).name for name in hosts or tuple(BUILT_IN)]
    place = directory.create(out).path
    words = ["--keep-going", *([] if no_snapshot else ["--snapshot"])]

    def run(
        entry: Entry, host: str, tests: Sequence[str], repeat: int, folder: Path
    ) -> dict[str, Any]:
        click.echo(f"-- {entry.name} on {host}", err=True)
        nodes = [str(TESTCASES / test) for test in tests]
        options = [f"--host={host}", f"--flavour={entry.name}", f"--repeat={repeat}"]
        chosen = _without_domus(known_hosts, place) if entry.without_domus else lab
        options += [f"--lab={chosen}"] if chosen else []
        return _run([*words, *options, f"--out={folder}", *nodes])

    cells = run_corpus(
        [known[name] for name in names or tuple(known)],
        chosen,
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


def _without_domus(hosts: Mapping[str, Host], place: Path) -> Path:
    """Write a lab file of the same hosts that start no domU; return its path."""
    file = place / "without-domus.yaml"
    bare = {
        name: host.model_dump(mode="json", exclude={"name"}, exclude_none=True) | {"domus": 0}
        for name, host in hosts.items()
    }
    file.write_text(yaml.safe_dump({"hosts": bare}))
    return file


def _run(words: Sequence[str]) -> dict[str, Any]:
    """Run the harness in a process of its own; return its JSON document.

    A process each: a run ends with everything it started, whatever became of it.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "run", "--json", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said, _ = child.communicate()
    except KeyboardInterrupt:
        child.terminate()  # a second Ctrl-C to it does no harm: it is on its way out already
        child.communicate(timeout=_END_SECONDS)
        raise
    if child.returncode == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    try:
        document: dict[str, Any] = json.loads(said)
    except ValueError:
        document = {}
    if child.returncode == EXIT_USAGE:
        raise ConfigError(str(document.get("error", "the run could not begin")))
    return document


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
