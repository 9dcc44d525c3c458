# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness bisect``: which commit broke it?"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from harness import cache
from harness.bisect import loop, processes, report
from harness.bisect.journal import Header, Journal
from harness.bisect.observations import BOOT, Observations
from harness.bisect.repository import Repository
from harness.bisect.search import Question, Step, Stop
from harness.bisect.signature import Signature
from harness.bisect.target import node_of, target_of
from harness.cli import COMMANDS, echo, print_json, warn
from harness.cli.options import host_option, json_option, option
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.options import RunOptions
from harness.data import BOOT_TEST, TESTCASES
from harness.hypervisor.series import read
from harness.results.directory import SHELF, cannot_write, write_whole
from harness.verdict import (
    EXIT_LAB,
    EXIT_PASS,
    ConfigError,
    HarnessError,
    LabError,
)


@click.command()
@option("xen_git", required=True, help="Git repository of Xen, a path or a URL.")
@click.option("--good", metavar="REV", help="Revision without the failure.")
@click.option("--bad", metavar="REV", help="Later revision that has it.")
@click.option("--old", metavar="REV", help="Instead of --good: revision in which the test fails.")
@click.option("--new", metavar="REV", help="Instead of --bad: later one in which it passes.")
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="FILE[::NAME]",
    help="Test that shows the failure; give the option again for each further one; `boot`: the "
    "host does not come up.  [default: all]",
)
@click.option(
    "--scenario",
    metavar="NAME",
    help="Instead of a test, force the orders of this scenario; see `interleave list`.",
)
@click.option(
    "--history-signature",
    "failed_run",
    type=click.Path(path_type=Path, exists=True),
    help="Look for the failure of this run (directory) or recorded history (*.parquet).",
)
@option("series", help="Apply the patches in this file to each revision; repeatable.")
@option("model", unset="recognised in each revision")
@host_option()
@option("lab")
@option(
    "out",
    help="Directory for the results; a bisection that was stopped there is resumed.",
    unset="results/bisect-<id>",
)
@json_option
def command(
    xen_git: str,
    good: str | None,
    bad: str | None,
    old: str | None,
    new: str | None,
    tests: tuple[str, ...],
    scenario: str | None,
    failed_run: Path | None,
    series: tuple[Path, ...],
    model: str | None,
    host: str,
    lab: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Find the commit that introduced a failure, also one that shows only now and then.

    With --old and --new: the first commit with which the test passes (what a backport lacks).
    If a bisection was interrupted or killed, the same command resumes it.  Exit code 3: no
    commit was found, or several remain.
    """
    booted = find_host(load_lab(lab), host)
    repository = Repository.open(xen_git)
    mends, older, newer = _ends(good, bad, old, new)
    ends = repository.commit(older[1], older[0]), repository.commit(newer[1], newer[0])
    failure = target_of(failed_run, warn) if failed_run else None
    boot = BOOT in tests or (failure is not None and failure.test == BOOT)
    commits = repository.between(*ends, mends=mends)
    question = Question(commits, forced=boot or scenario is not None, boot=boot)
    nodes = [scenario] if scenario else _nodes(tests, failure)
    if scenario and (tests or "interleave" not in COMMANDS):
        why = "excludes --test" if tests else "this installation has no command interleave"
        raise ConfigError(why, where="--scenario", hint="give one of the two")
    mails = [mail.content for mail in read(series)]
    head = Header(
        commits.good,
        commits.bad,
        tuple(nodes),
        booted.name,
        failure.key() if failure else "",
        changed=cache.key(model, *mails) if mails or model else "",
    )
    place = (out or SHELF / f"bisect-{cache.key(*head.fields().values())[:10]}").absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(place, error) from error
    echo(f"-- {len(commits.ids)} commits; everything is in {place}", err=True)
    began = time.monotonic()
    trees = processes.SourceTrees(repository, commits.newer, series, model)
    builds = processes.BuildProcesses(trees, booted.arch)
    runs = processes.RunProcesses(
        trees,
        options=RunOptions(host=(booted.name,), lab=lab, no_snapshot=True),
        tests=nodes,
        scenario=scenario or "",
        boot=boot,
        out=place / "runs",
    )
    with Journal(place / "bisect.jsonl", head, Observations(failure, boot=boot)) as journal:
        try:
            found, observations = loop.run(
                question,
                journal.observations,
                builds,
                runs,
                record=journal.add,
                notice=_notice(repository, mends),
            )
        finally:
            builds.close()
    if isinstance(found, Stop):
        raise _error(found, question)
    result = report.document(question, observations, found, repository)
    result |= {"seconds": round(time.monotonic() - began, 1), "path": str(place)}
    write_whole(place / "bisect.json", json.dumps(result, indent=2) + "\n")
    write_whole(place / "bisect.log", report.git_log(question, observations, found, repository))
    if as_json:
        print_json(result)
    else:
        for line in report.lines(result):
            echo(line)
        echo(str(place))
    return EXIT_PASS if found.answer.culprit is not None else EXIT_LAB


_End = tuple[str, str]  # option and revision


def _ends(
    good: str | None, bad: str | None, old: str | None, new: str | None
) -> tuple[bool, _End, _End]:
    """Return whether the commit is searched that mends something, and the two ends."""
    mends = old is not None or new is not None
    if mends and (good is not None or bad is not None):
        raise ConfigError(
            "--old and --new exclude --good and --bad",
            hint="the first pair finds what makes a test pass, the second what makes it fail",
        )
    pairs = (("--old", old), ("--new", new)) if mends else (("--good", good), ("--bad", bad))
    given = [(option, revision) for option, revision in pairs if revision is not None]
    if len(given) < len(pairs):
        missing = next(option for option, revision in pairs if revision is None)
        raise ConfigError(
            f"Missing option '{missing}'", hint="give --good and --bad, or --old and --new"
        )
    return mends, given[0], given[1]


def _nodes(tests: tuple[str, ...], failure: Signature | None) -> list[str]:
    """Return the paths of ``tests``; the folder of our own ones may be left out.

    `boot` is the test that the host comes up; it is searched alone.

    Without ``tests``: that of the test that showed ``failure``, or none, which means all.
    """
    if not tests and failure is not None and failure.test == BOOT:
        return [str(BOOT_TEST)]
    if not tests:
        return [node_of(failure, TESTCASES)] if failure else []
    if BOOT in tests:
        if len(tests) > 1:
            raise ConfigError("`boot` is searched alone", where="--test")
        return [str(BOOT_TEST)]
    nodes = []
    for test in tests:
        file = test.partition("::")[0]
        if Path(file).exists():
            nodes.append(str(Path(file).absolute()) + test.removeprefix(file))
        elif (TESTCASES / file).exists():
            nodes.append(str(TESTCASES / test))
        else:
            raise ConfigError("no such test file", where=test, hint=f"ours are in {TESTCASES}")
    return nodes


_PURPOSE = {
    "bad": "does the bad end fail?",
    "good": "does the good end pass?",
    "search": "searching",
    "culprit": "confirming: does the culprit fail?",
    "parent": "confirming: does its parent pass?",
    "revert": "confirming: does it pass with the culprit reverted?",
    "control": "is it the lab, or the revision?",
}


_PURPOSE_OF_OLD = {
    "bad": "does the old end fail?",
    "good": "does the new end pass?",
    "culprit": "confirming: does it pass with that commit?",
    "parent": "confirming: does its parent fail?",
    "revert": "confirming: does it fail with that commit reverted?",
}


def _notice(repository: Repository, mends: bool) -> loop.Notice:
    purpose = _PURPOSE | (_PURPOSE_OF_OLD if mends else {})

    def notice(step: Step, observations: Observations) -> None:
        name = step.revision.rpartition(":")[2]
        boots = len(observations.tested)
        echo(
            f"-- {purpose[step.stage]} {name[:12]} {repository.subject(name)} "
            f"(up to {step.tries} tries, boot {boots + 1})",
            err=True,
        )

    return notice


def _error(stop: Stop, question: Question) -> HarnessError:
    if stop.at in ("bad", "good"):
        commits = question.commits
        end = commits.bad if stop.at == "bad" else commits.good
        option = report.terms(commits.mends)[end == commits.newer]
        return ConfigError(f"{end[:12]}: {stop.why}", where=f"--{option}")
    if stop.at == "lab":
        return LabError(stop.why, hint="the same command resumes the bisection from here")
    return HarnessError(stop.why)
