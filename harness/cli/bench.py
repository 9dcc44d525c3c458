"""``evtchn-harness bench NAME``: measure a part of the harness on this machine."""

from __future__ import annotations

import importlib

import click

from harness.cli import print_json

# Name -> module whose run() returns metrics: name (with the unit in it) to number.
BENCHES: dict[str, str] = {
    "check": "harness.history.bench",
    "model": "harness.model.bench",
}


@click.command()
@click.argument("name", type=click.Choice(list(BENCHES)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(name: str, as_json: bool) -> int:
    """Measure NAME and print its figures."""
    metrics: dict[str, float] = importlib.import_module(BENCHES[name]).run()
    if as_json:
        print_json({"bench": name, "metrics": metrics})
    else:
        for metric, value in metrics.items():
            click.echo(f"{metric:32} {value:,.4g}")
    return 0
