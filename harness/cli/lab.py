# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness lab``: check, clean and switch the physical servers of lab.yaml."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli import echo, print_json
from harness.cli.options import json_option, option
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.physical import PhysicalHost
from harness.machine import lease, power
from harness.machine.power.labgrid import places
from harness.run import lab as servers
from harness.verdict import EXIT_LAB, EXIT_PASS, ConfigError, Verdict

_ACTIONS = ("state", "on", "off", "cycle", "soft-off", "nmi")
_lab_option = option("lab")


@click.group("lab")
def command() -> None:
    """Check, clean and switch the physical servers of lab.yaml."""


@command.command("check")
@click.argument("names", nargs=-1, metavar="[HOST]...")
@_lab_option
@json_option
def check(names: tuple[str, ...], lab: Path | None, as_json: bool) -> int:
    """Try power, console and SSH of each HOST and print what works (default: all servers).

    Nothing on a server is changed.  Exit code 3: a server is not ready for a run.
    """
    probes = [probe for host in _servers(lab, names) for probe in servers.check(host)]
    ok = all(probe.ok for probe in probes)
    if as_json:
        verdict = Verdict.PASS if ok else Verdict.MISS
        print_json({"verdict": verdict, "probes": [asdict(probe) for probe in probes]})
    else:
        for probe in probes:
            word = "ok  " if probe.ok else "FAIL"
            echo(f"{word} {probe.host:12} {probe.part:18} {probe.detail}")
    return EXIT_PASS if ok else EXIT_LAB


@command.command("clean")
@click.argument("names", nargs=-1, required=True, metavar="HOST...")
@_lab_option
@json_option
def clean(names: tuple[str, ...], lab: Path | None, as_json: bool) -> None:
    """Remove all files that the harness copied to each HOST, and list them."""
    gone = {host.name: servers.clean(host) for host in _servers(lab, names)}
    if as_json:
        print_json({"removed": gone})
        return
    for name, paths in gone.items():
        for path in paths:
            echo(f"{name}: {path}")
        if not paths:
            echo(f"{name}: the harness has no files there")


@command.command("power")
@click.argument("name", metavar="HOST")
@click.argument("action", type=click.Choice(_ACTIONS))
@_lab_option
@json_option
def power_(name: str, action: str, lab: Path | None, as_json: bool) -> None:
    """Switch the power of HOST, wait until it has the new state, and print the state.

    Fails while a run uses the server, except for "state", which only prints the state.
    """
    (host,) = _servers(lab, (name,))
    seconds, where = host.limits.power, f"host {name}: power"
    if action == "state":
        with contextlib.nullcontext() if lease.holder(name) else places(host.power):
            state = power.chain(host.power, seconds=seconds, where=where).state()
    else:
        with lease.lease(name, lambda _: None, wait=0.0) as held, places(host.power, held.check):
            chain = power.chain(host.power, seconds=seconds, where=where, before=held.confirm)
            actions: dict[str, Any] = {
                "on": chain.on,
                "off": chain.off,
                "cycle": chain.cycle,
                "soft-off": lambda: chain.soft_off(host.limits.boot),
                "nmi": chain.nmi,
            }
            actions[action]()
            state = chain.state()
    print_json({"host": name, "state": state}) if as_json else echo(f"{name}: {state}")


def _servers(lab: Path | None, names: tuple[str, ...]) -> list[PhysicalHost]:
    known = load_lab(lab)
    chosen = [find_host(known, name) for name in names] if names else list(known.values())
    servers = [host for host in chosen if isinstance(host, PhysicalHost)]
    if names and len(servers) < len(chosen):
        other = next(host.name for host in chosen if not isinstance(host, PhysicalHost))
        raise ConfigError(
            f"{other} is not a physical server",
            hint="give a host that has `kind: physical` in lab.yaml",
        )
    if not servers:
        raise ConfigError(
            "lab.yaml has no physical server",
            hint="add a host with `kind: physical`; docs/servers.md has its fields",
        )
    return servers
