# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness corpus``: do the good flavours pass, and are the bad ones caught?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from harness.arch import Arch
from harness.binary.judge import judge
from harness.cli import echo, print_json
from harness.cli.options import json_option, option
from harness.cli.tables import print_table
from harness.config.host import BUILT_IN
from harness.config.lab import host as find_host
from harness.config.lab import load_lab, write_without_domus
from harness.config.options import SUITES, RunOptions
from harness.corpus.entry import Entry, entries_for
from harness.corpus.judge import Cell, exit_code
from harness.corpus.loop import PAGE, run_corpus
from harness.data import TESTCASES
from harness.hypervisor.build import build
from harness.results import directory
from harness.run import child
from harness.run.plan import Plan, make_plan, open_hypervisor, open_source
from harness.verdict import ConfigError, Verdict


@click.command()
@click.option(
    "--entry",
    "names",
    multiple=True,
    metavar="NAME",
    help="Flavour to try; give the option again for each further one.  [default: all]",
)
@option(
    "host",
    help="Host to try them on; give the option again for each further one.",
    unset="all that are built in",
)
@option("repeat", default=None, unset="3")
@click.option(
    "--no-snapshot",
    is_flag=True,
    help="Do not restore the machine before each test: all tests share one boot.",
)
@click.option(
    "--generate",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead: make N mutants of Xen's event channels, and see which of them the tests kill.",
)
@option("seed", unset="1", help="With --generate: which mutants, of all that can be made.")
@click.option(
    "--alone",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="With --generate: build this mutant alone, and run the tests with it.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=click.Choice(SUITES),
    help="With --generate: tests to run; give the option again for further ones.  [default: all]",
)
@option("flavour", unset="with --generate: as of run; else all")
@option("xen_release")
@option("xen_src")
@option("xen_git")
@option("xen_ref")
@option("lab")
@option("out")
@json_option
def command(
    names: tuple[str, ...],
    host: tuple[str, ...],
    repeat: int | None,
    no_snapshot: bool,
    generate: int | None,
    seed: int | None,
    alone: int | None,
    suites: tuple[str, ...],
    flavour: str | None,
    lab: Path | None,
    out: Path | None,
    as_json: bool,
    **xen: Any,
) -> int:
    """Test every flavour of a Xen: the good ones must pass, the known-bad ones must fail.

    Exit code 1: a good one failed, or a bad one passed on a machine that can show its fault.

    With --generate, single faults are made by rule instead (docs/mutants.md): exit code 1 if one
    of them was not killed.  An interrupted run goes on with the same --out.
    """
    if generate is not None:
        other = {"--entry": names, "--repeat": repeat, "--no-snapshot": no_snapshot or None}
        _absent(other, "excludes --generate")
        seed = 1 if seed is None else seed
        asked = RunOptions(host=host, seed=seed, lab=lab, flavour=flavour, **xen)
        return _generate(make_plan(asked), generate, alone, suites or SUITES, out, as_json)
    generated = {"--seed": seed, "--alone": alone, "--suite": suites, "--flavour": flavour}
    _absent(generated, "needs --generate")
    repeat = 3 if repeat is None else repeat
    options = RunOptions(
        repeat=repeat,
        lab=lab,
        snapshot=not no_snapshot,
        no_snapshot=True,
        keep_going=True,
        **xen,
    )
    known = entries_for(open_source(options))
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"no entry {unknown[0]}", where="--entry", hint=f"there are {', '.join(known)}"
        )
    known_hosts = load_lab(lab)
    chosen = [find_host(known_hosts, name) for name in host or tuple(BUILT_IN)]
    arches = {one.name: one.arch for one in chosen}
    place = directory.create(out).path

    def run(entry: Entry, host: str, repeat: int, folder: Path) -> list[dict[str, Any]]:
        echo(f"-- {entry.name} on {host}", err=True)
        asked = replace(options, host=(host,), flavour=entry.name, repeat=repeat, out=folder)
        if entry.without_domus:
            asked = replace(asked, lab=write_without_domus(known_hosts, place))
        if entry.in_binary:
            return _in_binary(entry, arches[host], asked)
        if entry.forced_by:
            return _forced(entry.forced_by, asked)
        nodes = [str(TESTCASES / entry.caught_by)] if entry.caught_by else []
        ran = child.run(asked, nodes).get("hosts") or [{"tests": []}]
        return list(ran[0]["tests"])

    cells = run_corpus(
        [known[name] for name in names or tuple(known)],
        arches,
        repeat=repeat,
        out=place,
        run=run,
        notice=lambda cell: echo(
            f"-- {cell.entry} on {cell.host}: {cell.outcome} {cell.explanation}", err=True
        ),
    )
    if as_json:
        print_json([asdict(cell) for cell in cells])
    else:
        _print(cells)
        echo(str(place / PAGE))
    return exit_code(cells)


def _generate(
    plan: Plan,
    count: int,
    alone: int | None,
    suites: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> int:
    from harness.cli import mutants  # its plugin of pytest is slow to import

    if len(plan.hosts) > 1:
        raise ConfigError("mutants run on one host", where="--host", hint="give only one")
    if alone is not None:
        return mutants.alone(plan, count, alone, suites, out, as_json)
    return mutants.generate(plan, count, suites, out, as_json)


def _absent(options: Mapping[str, object], why: str) -> None:
    """ConfigError with ``why`` if one of ``options`` was given."""
    given = [name for name, value in options.items() if value not in (None, ())]
    if given:
        raise ConfigError(f"{given[0]} {why}", where=given[0])


def _forced(scenario: str, asked: RunOptions) -> list[dict[str, Any]]:
    """Force the interleaving of ``scenario`` that shows the fault, ``asked.repeat`` times; return
    each time as a test."""
    expose = ["interleave", "expose", f"--repeat={asked.repeat}", "--stress-repeat=0"]
    options = RunOptions(host=asked.host, lab=asked.lab, out=asked.out).with_xen(asked)
    found = child.run(options, [scenario], of=expose)
    name = f"forced-{scenario}"
    if "exposed" not in found:
        message = str(found.get("error", "the scenario was not run"))
        return [_test(name, Verdict.MISS, 0.0, message)]
    if not found["exposed"]:
        return [_test(name, Verdict.PASS, 0.0, "no interleaving shows a failure")]
    return [
        _test(
            name,
            Verdict.FAIL if each["how"] else Verdict.PASS,
            each["seconds"],
            each["how"],
            each["evidence"],
        )
        for each in found["forced"]
    ]


def _in_binary(entry: Entry, arch: Arch, asked: RunOptions) -> list[dict[str, Any]]:
    """Build ``entry`` for ``arch`` and judge its machine code; return the verdict as a test, whose
    name has the lock function that is refuted."""
    began = time.monotonic()
    opened = open_hypervisor(asked)
    built = build(opened.source, opened.flavour, arch, opened.how)
    judged = judge(built.syms, built.model.name)
    seconds = round(time.monotonic() - began, 3)
    refuted = [(copy, one) for copy in judged.functions for one in copy.departures]
    name = f"binary-{entry.in_binary}"
    if judged.verdict == "not covered":
        return [_test(name, Verdict.MISS, seconds, "model binary: not covered")]
    if not refuted:
        return [_test(name, Verdict.PASS, seconds, f"model binary: {judged.verdict}")]
    copy, one = next((r for r in refuted if r[0].function == entry.in_binary), refuted[0])
    told = f"{one.address:#x} {one.instruction} ({one.line}): {one.binary}; the model: {one.model}"
    return [_test(f"binary-{copy.function}", Verdict.FAIL, seconds, told)]


def _test(
    name: str,
    verdict: Verdict,
    seconds: float,
    message: str,
    evidence: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": verdict,
        "seconds": seconds,
        "message": message,
        "story": "",
        "artifacts": [],
        "evidence": evidence,
    }


def _print(cells: Sequence[Cell]) -> None:
    columns = ("host", "entry", "kind", "outcome", "seconds", "hits", "95 %", "explanation")
    rows = []
    for cell in cells:
        low, high = cell.probability
        rows.append(
            (
                cell.host,
                cell.entry,
                cell.kind,
                cell.outcome,
                f"{cell.seconds:.1f}",
                f"{cell.hits}/{cell.tries}",
                "" if cell.good or not cell.tries else f"{100 * low:.0f}-{100 * high:.0f} %",
                cell.explanation,
            )
        )
    print_table(columns, rows, 200)
