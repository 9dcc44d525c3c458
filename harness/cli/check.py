"""``evtchn-harness check``: hold stored histories against the model, offline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli import print_json
from harness.cli.options import json_option
from harness.history.checker import CheckResult, check
from harness.history.parquet import Reader
from harness.verdict import ConfigError, combine, exit_code


@click.command()
@click.argument("histories", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.option(
    "--html",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each violation as a timeline into this directory.",
)
def command(histories: tuple[Path, ...], as_json: bool, folder: Path | None) -> int:
    """Say whether the model allows what the HISTORY files recorded.

    Exit code 1: at least one history shows something that the model forbids.
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
    seen: dict[str, Path] = {}
    for path in histories:
        digest = Reader(path).digest
        if digest in seen:
            raise ConfigError(f"the same history as {seen[digest]}", where=str(path))
        seen[digest] = path


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
    click.echo(
        f"{result.verdict} {path}: {result.operations} operations in {result.seconds:.1f} s, "
        f"{result.undecided} undecided ({share:.2f} %), {result.found} violations"
    )
    for violation in result.violations:
        click.echo("")
        click.echo(violation.story)
