# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness doctor``: check what a run needs on this machine."""

from __future__ import annotations

from dataclasses import asdict

import click

from harness.cli import echo, print_json
from harness.cli.options import json_option
from harness.run import doctor
from harness.verdict import EXIT_LAB, EXIT_PASS, Verdict


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Check what a run needs on this machine; print what is missing and how to install it.

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
        echo(f"{'ok     ' if check.ok else 'MISSING'}  {check.name:{width}}  {check.detail}")
        if check.mend:
            echo(f"         {'':{width}}  -> {check.mend}")
    echo("nothing is missing" if well else "repair the points above, then call doctor again")
    return EXIT_PASS if well else EXIT_LAB
