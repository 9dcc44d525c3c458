# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness bench NAME``: measure a part of the harness on this machine."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from harness.cli import echo, print_json
from harness.cli.options import host_option, json_option, option
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.options import DEFAULT_HOST
from harness.verdict import ConfigError

# Name of the bench -> (module, function).  The function returns its metrics: a number for each
# name, which has the unit in it.
BENCHES = {
    "bisect": ("harness.bisect.bench", "run"),
    "changes": ("harness.nightly.simulate", "run"),
    "check": ("harness.history.bench", "run"),
    "dashboard": ("harness.nightly.bench", "run"),
    "model": ("harness.model.bench", "run"),
}
# The same, but the function gets a host and boots it.
HOST_BENCHES = {
    "restore": ("harness.run.bench", "restore"),
    "recording": ("harness.run.bench", "recording"),
    "interleave": ("harness.interleave.forced_run", "measure_rate"),
}


@click.command()
@click.argument("name", type=click.Choice([*BENCHES, *HOST_BENCHES]))
@host_option("Host to boot, for the benches that boot one.", default=None, unset=DEFAULT_HOST)
@option("lab")
@json_option
def command(name: str, host: str | None, lab: Path | None, as_json: bool) -> int:
    """Run the benchmark NAME and print its figures."""
    if name in BENCHES and host is not None:
        raise ConfigError(
            f"bench {name} boots no host", where="--host", hint="leave this option out"
        )
    module, function = (BENCHES | HOST_BENCHES)[name]
    measure = getattr(importlib.import_module(module), function)
    wanted = [] if name in BENCHES else [find_host(load_lab(lab), host or DEFAULT_HOST)]
    metrics: dict[str, float] = measure(*wanted)
    if as_json:
        print_json({"bench": name, "metrics": metrics})
    else:
        for metric, value in metrics.items():
            echo(f"{metric:32} {value:,.4g}")
    return 0
