"""``evtchn-harness doctor``."""

from __future__ import annotations

from dataclasses import asdict

import click

from harness.cli import print_json
from harness.cli.options import json_option
from harness.run import doctor
from harness.verdict import EXIT_LAB, EXIT_PASS, Verdict


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Say what a run needs of this machine, what of it is missing, and which command installs it.

    Exit code 3: something is missing.
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
