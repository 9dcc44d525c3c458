"""``evtchn-harness run``: the whole line, for one host or several."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pytest

from harness.cli import print_json
from harness.cli.tree import tree_options
from harness.cli.tree import words as tree_words
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.run.plan import DEFAULT_DURATION, DEFAULT_FLAVOUR, Plan, Tree
from harness.verdict import EXIT_INTERRUPTED, EXIT_USAGE, ConfigError

TESTCASES = Path(__file__).resolve().parents[2] / "testcases"


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
@click.option("--snapshot", is_flag=True, help="Restore the booted machine before every test.")
@click.option("--repeat", type=int, default=1, show_default=True, help="Run every test so often.")
@click.option("--keep-going", is_flag=True, help="Go on after a test that did not pass.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.argument("tests", nargs=-1, type=click.Path(path_type=Path))
def command(
    hosts: tuple[str, ...],
    tests: tuple[Path, ...],
    snapshot: bool,
    keep_going: bool,
    as_json: bool,
    tree: Tree,
    **options: Any,
) -> int:
    """Build, boot, test; ends with a verdict and the path of the report.

    TESTS are pytest files or directories; by default those in testcases/.
    """
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
    words = [str(test) for test in tests] or [str(TESTCASES)]
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
    return _pytest(words, as_json)


def _pytest(words: list[str], as_json: bool) -> int:
    from harness.results.document import run_document
    from harness.results.store import load

    watcher = _Watcher()
    signal.signal(signal.SIGTERM, _interrupt)
    # What a test prints belongs to the person, not to the program that reads the document.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        code = int(pytest.main(words, plugins=[watcher]))
    if watcher.run is None:  # pytest has said on stderr what is wrong with the options
        return EXIT_USAGE
    if as_json:
        print_json(run_document(load(watcher.run.directory.path)))
    else:
        click.echo(str(watcher.run.directory.report))
    return EXIT_INTERRUPTED if code == pytest.ExitCode.INTERRUPTED and watcher.stopped else code


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


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM is a normal way to end: the same path as Ctrl-C."""
    sys.stderr.flush()
    raise KeyboardInterrupt
