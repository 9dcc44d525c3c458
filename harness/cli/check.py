# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness check``: judge recorded histories by the model, without a booted host."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli import echo, print_json
from harness.cli.options import json_option
from harness.history.checker import CheckResult, check
from harness.history.format.parquet import Reader
from harness.verdict import ConfigError, combine, exit_code


@click.command()
@click.argument("histories", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.option(
    "--html",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for one HTML page per violation, with its operations on a timeline.",
)
def command(histories: tuple[Path, ...], as_json: bool, folder: Path | None) -> int:
    """Judge recorded HISTORY files (history/*.parquet of a run) by the model.

    Exit code 0: the model allows all that was recorded; 1: it forbids something in at least one
    history; 3: a history holds no operation.
    """
    _no_duplicates(histories)
    results = {str(path): check(path, html=folder) for path in histories}
    verdict = combine(result.verdict for result in results.values())
    if as_json:
        print_json(_document(results))
    else:
        for path, result in results.items():
            _print(path, result)
    return exit_code(verdict)


def _no_duplicates(histories: tuple[Path, ...]) -> None:
    paths: dict[str, Path] = {}
    for path in histories:
        digest = Reader(path).digest
        if digest in paths:
            what = f"the same history as {paths[digest]}"
            raise ConfigError(what, where=str(path), hint="give each history once")
        paths[digest] = path


def _document(results: dict[str, CheckResult]) -> dict[str, Any]:
    """The keys users rely on: verdict, operations, undecided, seconds, violations."""
    every = list(results.values())
    return {
        "verdict": combine(result.verdict for result in every),
        "operations": sum(result.operations for result in every),
        "undecided": sum(result.undecided for result in every),
        "seconds": sum(result.seconds for result in every),
        "violations": [
            {"history": path, **_violation(violation)}
            for path, result in results.items()
            for violation in result.violations
        ],
        "histories": [
            {
                "history": path,
                "verdict": result.verdict,
                "operations": result.operations,
                "undecided": result.undecided,
                "seconds": result.seconds,
                "found": result.found,
                "in_flight": list(result.in_flight),
            }
            for path, result in results.items()
        ],
    }


def _violation(violation: Any) -> dict[str, Any]:
    fields = asdict(violation)
    fields["witness"] = fields.pop("story")
    return fields


def _print(path: str, result: CheckResult) -> None:
    share = 100 * result.undecided / max(result.operations, 1)
    echo(
        f"{result.verdict} {path}: {result.operations} operations in {result.seconds:.1f} s, "
        f"{result.undecided} undecided ({share:.2f} %), {result.found} violations"
    )
    for violation in result.violations:
        echo("")
        echo(violation.story)
