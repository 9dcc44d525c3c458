"""``evtchn-harness doctor``."""

from __future__ import annotations

from dataclasses import asdict

import click

from harness.cli import print_json
from harness.run import doctor
from harness.verdict import EXIT_LAB, EXIT_PASS, Verdict


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(as_json: bool) -> int:
    """Say what is there, what is missing, and the command that mends each point.

    Exits 3 when something that a run needs is missing.
    """
    checks = doctor.examine()
    well = all(check.ok for check in checks)
    if as_json:
        verdict = Verdict.PASS if well else Verdict.MISS
        print_json({"verdict": verdict, "checks": [asdict(check) for check in checks]})
        return EXIT_PASS if well else EXIT_LAB
    width = max(len(check.name) for check in checks)
    for check in checks:
        click.echo(f"{'ok     ' if check.ok else 'MISSING'}  {check.name:{width}}  {check.detail}")
        if check.mend:
            click.echo(f"         {'':{width}}  -> {check.mend}")
    click.echo(
        "everything a run needs is here" if well else "mend the points above, then run again"
    )
    return EXIT_PASS if well else EXIT_LAB
