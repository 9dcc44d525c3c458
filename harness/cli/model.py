# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness model``: check, trace, export, report; binary and litmus are beside it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from harness.cli import binary, echo, litmus, print_json
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.promela import export
from harness.model.explore.search import Limits, Progress
from harness.model.explore.trace import trace_lines
from harness.model.findings import build_report
from harness.model.lock.check import FlavourCheck, Violation, check
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.model.lock.locks import LOCKS
from harness.model.lock.scenarios import SCENARIOS, Bounds
from harness.model.report import text
from harness.results.model_page import html
from harness.verdict import EXIT_FAIL, EXIT_LAB, EXIT_PASS, ConfigError, HarnessError

_MIB = 1 << 20
_EVERY = 2.0  # seconds between two lines of progress
_EXIT = {"proved": EXIT_PASS, "refuted": EXIT_FAIL, "not exhausted": EXIT_LAB}


@click.group("model")
def command() -> None:
    """The reference model: what it proves and refutes of the lock."""


command.add_command(binary.command)
command.add_command(litmus.command)

_flavour = click.option(
    "--flavour", type=click.Choice(list(LOCKS)), default="counter", show_default=True
)
_readers = click.option(
    "--readers",
    type=click.IntRange(0, 4096),
    default=3,
    show_default=True,
    help="How many threads send.",
)
_writers = click.option(
    "--writers",
    type=click.IntRange(0, 64),
    default=2,
    show_default=True,
    help="How many threads bind or close (writers).",
)
_memory = click.option(
    "--memory",
    type=click.Choice([m.value for m in MemoryModel]),
    default="sc",
    show_default=True,
    help="sc: every interleaving. tso (x86), arm: accesses reordered; each thread runs once.",
)
_arch = click.option(
    "--arch",
    type=click.Choice(list(MAX_VIRT_CPUS)),
    default="x86_64",
    show_default=True,
    help="The architecture whose MAX_VIRT_CPUS a writer adds to the counter.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_max_states = click.option(
    "--max-states", type=click.IntRange(1), help="Give up beyond so many states."
)
_max_memory = click.option(
    "--max-memory", type=click.IntRange(1), help="Give up beyond so many MiB."
)


@command.command("check")
@_flavour
@_readers
@_writers
@_memory
@_arch
@_max_states
@_max_memory
@click.option("--unreduced", is_flag=True, help="Also count the states with threads told apart.")
@_json
def check_command(
    flavour: str,
    readers: int,
    writers: int,
    memory: str,
    arch: str,
    max_states: int | None,
    max_memory: int | None,
    unreduced: bool,
    as_json: bool,
) -> int:
    """Explore a flavour; print each property that fails, with a shortest trace.

    Exit code: 0 proved within the bounds, 1 refuted, 3 not all states were explored.
    """
    bounds = Bounds(readers, writers, arch)
    start = time.monotonic()
    done = _check(flavour, bounds, memory, max_states, max_memory, unreduced)
    seconds = time.monotonic() - start
    if as_json:
        print_json(_document(done, seconds))
    else:
        _print(done, seconds)
    return _EXIT[done.verdict]


@command.command("trace")
@_flavour
@_readers
@_writers
@_memory
@_arch
@click.option("--name", help="Only this violation, by its name in `model check`.")
@_json
def trace_command(
    flavour: str,
    readers: int,
    writers: int,
    memory: str,
    arch: str,
    name: str | None,
    as_json: bool,
) -> int:
    """Print the shortest trace of each violation, step by step."""
    done = _check(flavour, Bounds(readers, writers, arch), memory, None, None, False)
    chosen = [v for v in done.violations if name in (None, v.name)]
    if name is not None and not chosen:
        names = sorted({v.name for v in done.violations})
        raise ConfigError(
            f"{flavour} has no violation called {name} within these bounds",
            hint=f"it has: {', '.join(names)}" if names else "nothing fails here",
        )
    if as_json:
        print_json([violation.document() for violation in chosen])
        return EXIT_PASS
    for violation in chosen:
        _print_trace(violation)
    if not chosen:
        echo(f"{flavour}: nothing fails within these bounds ({done.verdict})")
    return EXIT_PASS


@command.command("export")
@click.option("--to", "language", type=click.Choice(["promela"]), required=True)
@_flavour
@_readers
@_writers
@_arch
@click.option("--scenario", type=click.Choice(list(SCENARIOS)), default="lock", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
def export_command(
    language: str,
    flavour: str,
    readers: int,
    writers: int,
    arch: str,
    scenario: str,
    output: Path | None,
) -> None:
    """Write a scenario as a model for another model checker."""
    assert language == "promela"
    model = export(SCENARIOS[scenario](flavour, Bounds(readers, writers, arch)))
    if output is None:
        echo(model, nl=False)
    else:
        _write(output, model)


@command.command("report")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="model-report.html",
    show_default=True,
)
def report_command(output: Path) -> None:
    """Explore everything; write what is proved and refuted to an HTML page, and print it."""
    made = build_report(lambda doing: echo(f"{doing} ...", err=True))
    _write(output, html(made))
    echo(text(made))
    echo(f"Written to {output}", err=True)


def _write(output: Path, content: str) -> None:
    try:
        output.write_text(content)
    except OSError as error:
        raise HarnessError(f"cannot write: {error.strerror}", where=str(output)) from error


def _check(
    flavour: str,
    bounds: Bounds,
    memory: str,
    max_states: int | None,
    max_memory: int | None,
    unreduced: bool,
) -> FlavourCheck:
    if not bounds.readers + bounds.writers:
        raise ConfigError("nobody uses the lock", hint="ask for at least one reader or writer")
    limits = Limits(max_states, None if max_memory is None else max_memory * _MIB)
    try:
        return check(
            flavour,
            bounds,
            MemoryModel(memory),
            unreduced=unreduced,
            limits=limits,
            watch=_Progress(),
        )
    except ValueError as error:  # a state has to fit one machine word
        raise ConfigError(str(error), hint="ask for fewer readers or writers") from error


class _Progress:
    """Prints a line of progress on stderr every two seconds."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._name = ""

    def __call__(self, name: str, progress: Progress) -> None:
        now = time.monotonic()
        if name != self._name:
            self._name, self._start, self._last = name, now, now
        if now - self._last < _EVERY:
            return
        self._last = now
        rate = progress.states / max(now - self._start, 1e-9)
        print(
            f"{name}: {progress.states} states, {rate:.0f} states/s, frontier "
            f"{progress.frontier}, step {progress.level}, {progress.bytes / _MIB:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )


def _document(done: FlavourCheck, seconds: float) -> dict[str, Any]:
    document: dict[str, Any] = {
        "flavour": done.flavour,
        "readers": done.bounds.readers,
        "writers": done.bounds.writers,
        "memory": done.memory.value,
        "arch": done.bounds.arch,
        "states": done.states,
    }
    if done.states_unreduced is not None:
        document["states_unreduced"] = done.states_unreduced
    return document | {
        "exhausted": done.exhausted,
        "verdict": done.verdict,
        "seconds": round(seconds, 3),
        "violations": [violation.document() for violation in done.violations],
        "scenarios": [
            {
                "scenario": one.scenario,
                "readers": one.readers,
                "writers": one.writers,
                "states": one.states,
                "transitions": one.transitions,
                "exhausted": one.exhausted,
            }
            | ({"states_unreduced": one.unreduced} if one.unreduced is not None else {})
            for one in done.explored
        ],
    }


def _print(done: FlavourCheck, seconds: float) -> None:
    bounds = done.bounds
    echo(
        f"{done.flavour}, {bounds.readers} readers, {bounds.writers} writers, "
        f"W = {MAX_VIRT_CPUS[bounds.arch]} ({bounds.arch}), memory {done.memory.value}: "
        f"{done.verdict}, {done.states} states in {seconds:.1f} s"
    )
    for one in done.explored:
        told_apart = "" if one.unreduced is None else f", {one.unreduced} with threads told apart"
        limit = "" if one.exhausted else ", NOT EXHAUSTED"
        echo(
            f"  {one.scenario}: {one.readers} readers, {one.writers} writers, "
            f"{one.states} states{told_apart}{limit}"
        )
        for invariant in one.invariants if one.scenario == "lock" else ():
            echo(f"    invariant, any number of threads: {invariant}")
    for violation in done.violations:
        echo("")
        _print_trace(violation)


def _print_trace(violation: Violation) -> None:
    only = ", model only" if violation.model_only else ""
    where = f"scenario {violation.scenario}{only}"
    echo(f"{violation.name}: NOT {violation.property} ({where})")
    for line in trace_lines(violation.trace):
        echo(f"  {line}")
