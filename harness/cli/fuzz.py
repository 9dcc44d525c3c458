# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness fuzz``: random programmes in the bare guest, judged by the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli import echo, print_json
from harness.cli.options import host_option, json_option, option, takes
from harness.config.options import RunOptions, XenOptions
from harness.run.plan import make_plan
from harness.verdict import ConfigError, Verdict, exit_code


@click.command("fuzz")
@takes(XenOptions, "xen")
@host_option("Host to hunt on.")
@option("duration", default=60.0, help="Seconds to hunt for.")
@option("seed")
@click.option(
    "--guest",
    type=click.Choice(("arm", "pvh", "hvm", "pv")),
    help="Type as which the guest runs.  [default: the first that the host can run]",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Run the programmes in this directory first; keep there what is found.",
)
@click.option(
    "--replay",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead: run again the programme in FILE, which `fuzz` has written.",
)
@option("no_snapshot")
@option("lines")
@option("lab")
@option("out")
@json_option
def command(
    xen: XenOptions,
    host: str,
    duration: float,
    seed: int | None,
    guest: str | None,
    corpus: Path | None,
    file: Path | None,
    no_snapshot: bool,
    lines: bool,
    lab: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Hunt: run random programmes in a guest of HOST, and hold each answer against the model.

    The guest makes thousands of operations on its event channels at a time.  The first answer, and
    the first bit in its memory, that the model does not allow ends the hunt, and so does a hang of
    Xen.  Then the programme is made as short as it can be, told in two lines, and written to a file
    that --replay runs again.

    Exit code 1: Xen has done what the model does not allow.
    """
    from harness.fuzz.run import replay, run_fuzz

    if file is not None and (corpus is not None or guest is not None):
        raise ConfigError(
            "--replay excludes --corpus and --guest", hint="FILE says which guest made it"
        )
    asked = RunOptions(
        host=(host,),
        duration=duration,
        seed=seed,
        no_snapshot=no_snapshot,
        lines=lines,
        lab=lab,
        out=out,
    )
    plan = make_plan(asked.with_xen(xen))
    document = replay(plan, file) if file is not None else run_fuzz(plan, guest, corpus)
    _print(document, as_json)
    return exit_code(Verdict(document["verdict"]))


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    if document["message"]:
        for line in filter(None, (document["message"], document["told"], document["programme"])):
            echo(line)
    echo(document["report"])
