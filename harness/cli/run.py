# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness run``: the whole line, for one host or several."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest

from harness import unforeseen
from harness.cli import echo, print_json
from harness.cli.options import json_option, takes
from harness.config.options import RunOptions
from harness.data import BOOT_TEST, TESTCASES
from harness.host_run import HostRun
from harness.progress import Progress
from harness.results import directory
from harness.run.plan import (
    EmulationPlan,
    Hypervisor,
    Plan,
    find_hosts,
    how_to_build,
    make_plan,
    open_source,
    plan_of,
)
from harness.verdict import EXIT_INTERRUPTED, ConfigError, HarnessError, exit_code

SUITES = {"lock": TESTCASES, "conformance": TESTCASES / "conformance"}

# Which of pytest's own parts run beside ours: none that print, none that a file of the user's or
# another package of the environment would bring.  (labgrid's is there for power, and wants a
# terminal.)  What the run is to do is in its plan.
PYTEST = [
    *("-p", "xen-evtchn-harness", "-s", "-c", "/dev/null", f"--rootdir={TESTCASES}"),
    *(word for name in ("terminal", "cacheprovider", "timeout", "xdist", "labgrid")
      for word in ("-p", f"no:{name}")),
]  # fmt: skip


@click.command("run")
@takes(RunOptions, "options")
@click.option(
    "--bisect-run",
    is_flag=True,
    help="For `git bisect run`: exit with 0 (good), 1 (bad), 125 (cannot be tested), 255 (stop).",
)
@click.option(
    "--each", is_flag=True, help="With --series: a run of its own after every patch of the series."
)
@json_option
@click.argument("tests", nargs=-1, type=click.Path(path_type=Path))
def command(
    options: RunOptions, tests: tuple[Path, ...], bisect_run: bool, each: bool, as_json: bool
) -> int:
    """Build Xen, boot it on each host, test it there; end with a verdict and a report.

    TESTS are pytest files or directories; by default those of the --suite.  A host's tests end
    with the first one that does not pass, unless --keep-going is given; the other hosts are
    tested whatever became of it.

    With --each, the verdict and the exit code are those of the worst patch.
    """
    if each and bisect_run:
        raise ConfigError(
            "--each and --bisect-run exclude each other", hint="give only one of them"
        )
    if each:
        return _run_each(options, tests, as_json)
    if bisect_run:
        return _bisect_run(replace(options, no_snapshot=True), tests, as_json)
    return _run(plan_of(options), options.suite, tests, as_json).exit_code


def _bisect_run(options: RunOptions, tests: Sequence[Path], as_json: bool) -> int:
    """Run for ``git bisect run``; a lab fault is tried once more, and then stops it."""
    from harness.bisect import gitrun
    from harness.hypervisor import flavour as flavours
    from harness.hypervisor.series import DoesNotApply
    from harness.results.store import load

    try:
        archs = [host.arch for host in find_hosts(options)]
        source, how = open_source(options), how_to_build(options)
        flavour = options.flavour or flavours.AS_IT_STANDS
        if why := gitrun.unbuildable(source, flavour, archs, how):
            echo(f"skipped: {why}", err=True)
            return gitrun.SKIP
        found = flavours.find(flavour, source, options.model)
        xen = Hypervisor(source=source, flavour=found, how=how)
        for _ in range(2):
            run = _run(make_plan(options, xen), options.suite, tests, as_json)
            if run.exit_code == EXIT_INTERRUPTED:
                return gitrun.STOP
            if (said := gitrun.exit_code(load(run.directory.path))) != gitrun.STOP:
                return said
    except DoesNotApply as error:
        echo(f"skipped: {error}", err=True)
        return gitrun.SKIP
    except HarnessError as error:  # exit code 2 or 3 would mean "bad" to git
        echo(f"error: {error}", err=True)
    except Exception as error:
        echo(f"error: {unforeseen.explained(error, directory.newest())}", err=True)
    return gitrun.STOP


def _run_each(options: RunOptions, tests: Sequence[Path], as_json: bool) -> int:
    """Run after every patch; print a line for each, or the document."""
    from harness.run.each import run_each

    tests_of(options.suite, tests)  # a test file that is not there is told before anything is built
    document = run_each(options, [str(test) for test in tests], lambda text: echo(text, err=True))
    if as_json:
        print_json(document)
    else:
        for step in document["steps"]:
            echo(
                f"{step['verdict']:5} {step['number']}/{document['patches']} {step['subject']}  "
                f"{step['message']}".rstrip()
            )
        echo(document["message"] or f"{document['verdict']} after every patch")
        echo(document["path"])
    return exit_code(document["verdict"])


def _run(plan: Plan | EmulationPlan, suite: str, tests: Sequence[Path], as_json: bool) -> HostRun:
    """Run ``tests``, or the suite, as ``plan`` says; print where the report is, or the document."""
    from harness.conformance.emulated import summary as emulation_summary
    from harness.conformance.report import coverage
    from harness.conformance.report import write as write_coverage
    from harness.results.document import run_document
    from harness.results.store import load

    emulated = isinstance(plan, EmulationPlan)
    if emulated:
        suite = "conformance"  # the only one that needs no machine
    words = [*PYTEST, *tests_of(suite, tests)]
    run = HostRun(plan, Progress())
    # What a test prints belongs to the person, not to the program that reads the document.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        pytest.main(words, plugins=[run])
    run.finish("pytest could not begin: see above")  # unless it did
    place = run.directory.path
    if emulated:
        run.recorder.progress.note(emulation_summary(run.directory))
    elif suite == "conformance" and not tests:
        page = write_coverage(coverage([place]), place)
        run.recorder.progress.note(f"cells of the catalogue: {page}")
    if as_json:
        print_json(run_document(load(place)))
    else:
        echo(str(run.directory.report))
    return run


def tests_of(suite: str, tests: Sequence[Path]) -> list[str]:
    """Return what pytest shall collect."""
    for test in tests:
        if not Path(str(test).partition("::")[0]).exists():
            raise ConfigError("no such test file", where=str(test))
    if tests:
        # pytest must not take a file whose name begins with "-" for an option.
        return [f"./{test}" if str(test).startswith("-") else str(test) for test in tests]
    others = (SUITES["conformance"], BOOT_TEST.parent) if suite == "lock" else ()
    return [str(SUITES[suite]), *(f"--ignore={other}" for other in others)]
