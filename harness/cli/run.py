"""``evtchn-harness run``: the whole line, for one host or several."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.core import ParameterSource

from harness.cli import print_json
from harness.cli.tree import tree_options
from harness.cli.tree import words as tree_words
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.data import TESTCASES
from harness.run.plan import DEFAULT_DURATION, DEFAULT_FLAVOUR, Plan, Tree
from harness.verdict import EXIT_INTERRUPTED, EXIT_USAGE, ConfigError, HarnessError

SUITES = {"lock": [TESTCASES], "conformance": [TESTCASES / "conformance"]}


@click.command("run")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Repeatable.  [qemu-x86_64]")
@click.option(
    "--flavour", default=DEFAULT_FLAVOUR, show_default=True, help="Lock flavour under test."
)
@click.option(
    "--duration", type=float, default=DEFAULT_DURATION, show_default=True, help="Seconds of load."
)
@click.option("--seed", type=int, help="Seed of the load.  [a fresh one]")
@click.option("--out", type=click.Path(path_type=Path), help="New directory for the results.")
@click.option("--lab", type=click.Path(path_type=Path), help="lab.yaml with more hosts.")
@tree_options
@click.option(
    "--suite",
    type=click.Choice(list(SUITES)),
    default="lock",
    show_default=True,
    help="Which of our test cases, if no TESTS are given.",
)
@click.option("--snapshot", is_flag=True, help="Restore the booted machine before every test.")
@click.option("--repeat", type=int, default=1, show_default=True, help="Run every test so often.")
@click.option("--keep-going", is_flag=True, help="Go on after a test that did not pass.")
@click.option("--bisect-run", is_flag=True, help="Exit as `git bisect run` wants: 0, 1, 125.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.argument("tests", nargs=-1, type=click.Path(path_type=Path))
def command(bisect_run: bool, **asked: Any) -> int:
    """Build, boot, test; ends with a verdict and the path of the report.

    TESTS are pytest files or directories; by default those of the suite in testcases/.
    """
    return _bisect_run(asked) if bisect_run else _run(**asked)[0]


def _run(
    hosts: tuple[str, ...],
    tests: tuple[Path, ...],
    suite: str,
    snapshot: bool,
    keep_going: bool,
    as_json: bool,
    tree: Tree,
    **options: Any,
) -> tuple[int, Path | None]:
    """Return the exit code and the run directory, if it came to that."""
    chosen = hosts or ("qemu-x86_64",)
    lab = load_lab(options["lab"])
    Plan(
        tuple(find_host(lab, name) for name in chosen),
        options["flavour"],
        tree,
        duration=options["duration"],
        out=options["out"],
        repeat=options["repeat"],
    ).check()
    words = [str(test) for test in tests or SUITES[suite]]
    if suite == "lock" and not tests:
        words.append(f"--ignore={SUITES['conformance'][0]}")
    for test in tests:
        if not Path(str(test).partition("::")[0]).exists():
            raise ConfigError("no such test file", where=str(test))
    words += [f"--host={name}" for name in chosen]
    words += [
        f"--{name.replace('_', '-')}={value}"
        for name, value in options.items()
        if value is not None
    ]
    words += tree_words(tree)
    words += ["-p", "no:terminal", "-p", "no:cacheprovider", "-s"]
    words += ["-c", "/dev/null", f"--rootdir={TESTCASES}", "-p", "no:timeout", "-p", "no:xdist"]
    words += ["-p", "no:labgrid"]  # it is installed for power: its plugin wants a terminal
    if snapshot:
        words.append("--snapshot")
    if not keep_going:
        words.append("--exitfirst")
    return _pytest(words, as_json, cover=suite == "conformance" and not tests)


def _bisect_run(asked: dict[str, Any]) -> int:
    """Run for ``git bisect run``; a lab fault is tried once more, and then stops it."""
    from harness.bisect import gitrun
    from harness.hypervisor import flavour as flavours
    from harness.results.store import load

    given = click.get_current_context().get_parameter_source("flavour")
    try:
        lab = load_lab(asked["lab"])
        archs = [find_host(lab, name).arch for name in asked["hosts"] or ("qemu-x86_64",)]
        source = asked["tree"].source()
        if given is ParameterSource.DEFAULT:
            asked["flavour"] = flavours.as_it_stands(source.tree)
        if why := gitrun.unbuildable(source, asked["flavour"], archs):
            click.echo(f"skipped: {why}", err=True)
            return gitrun.SKIP
        for _ in range(2):
            code, place = _run(**asked)
            if code == EXIT_INTERRUPTED or place is None:
                return gitrun.STOP
            if (said := gitrun.code(load(place))) != gitrun.STOP:
                return said
    except HarnessError as error:  # exit code 2 or 3 would mean "bad" to git
        click.echo(f"error: {error}", err=True)
    return gitrun.STOP


def _pytest(words: list[str], as_json: bool, *, cover: bool) -> tuple[int, Path | None]:
    from harness.conformance.report import coverage
    from harness.conformance.report import write as write_coverage
    from harness.results.document import run_document
    from harness.results.store import load

    watcher = _Watcher()
    # What a test prints belongs to the person, not to the program that reads the document.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        code = int(pytest.main(words, plugins=[watcher]))
    if watcher.run is None:  # pytest has said on stderr what is wrong with the options
        return EXIT_USAGE, None
    place: Path = watcher.run.directory.path
    if cover:
        page = write_coverage(coverage([place]), place)
        watcher.run.recorder.progress.note(f"cells of the catalogue: {page}")
    if as_json:
        print_json(run_document(load(place)))
    else:
        click.echo(str(watcher.run.directory.report))
    stopped = code == pytest.ExitCode.INTERRUPTED and watcher.stopped
    return EXIT_INTERRUPTED if stopped else code, place


class _Watcher:
    """Keeps hold of the run that the plugin made."""

    def __init__(self) -> None:
        self.run: Any = None
        self.stopped = False

    def pytest_plugin_registered(self, plugin: object, plugin_name: str) -> None:
        if plugin_name == "xen-evtchn-harness-run":
            self.run = plugin

    def pytest_keyboard_interrupt(self) -> None:
        self.stopped = True
