# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness boot``: boot a host and open a shell in its dom0."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import click

from harness import __version__
from harness.cli import echo
from harness.cli.options import host_option, option, takes
from harness.config.lab import host as find_host
from harness.config.lab import load_lab
from harness.config.options import XenOptions
from harness.conformance.own_domain import ask_own_domain
from harness.progress import Progress
from harness.results import directory, records
from harness.run.plan import Plan, open_hypervisor
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.up import session
from harness.verdict import Verdict

_LEAVE = b"\x1d"  # Ctrl-], as in virsh console and telnet
_CHUNK = 65536


@click.command("boot")
@host_option()
@takes(XenOptions, "xen")
@click.option(
    "--console",
    "serial",
    is_flag=True,
    help="Open Xen's serial console instead of a shell in dom0.",
)
@option("lab")
def command(host: str, xen: XenOptions, serial: bool, lab: Path | None) -> None:
    """Boot a host with its domUs, and open a root shell in dom0 (or the serial console).

    Ctrl-] closes it and powers the machine off.  If stdin is not a terminal, the shell reads its
    commands from stdin.
    """
    chosen = find_host(load_lab(lab), host)
    plan = Plan(hosts=(chosen,), hypervisor=open_hypervisor(xen))
    run = directory.create()
    recorder = Recorder(plan, run, Progress())
    recorder.add(records.RunStart(plan.seed, tuple(sys.argv), __version__, (host,)))
    try:
        with session(plan, chosen, recorder, ask_own_domain) as live:
            address, port = live.machine.ssh
            echo(f"dom0 is at {address} port {port}; consoles: {run.console(host)}", err=True)
            echo("press Ctrl-] to power the machine off and leave", err=True)
            _console(live) if serial else _shell(live)
            recorder.add(records.Test(host, "boot", Verdict.DONE, 0.0))
    finally:
        recorder.end_host(host)
        recorder.end_run()
        recorder.close()


def _shell(live: Session) -> None:
    """Connect our terminal with a shell in dom0 until one of them ends."""
    size = shutil.get_terminal_size()
    if sys.stdin.isatty():
        channel = live.dom0.shell(size.columns, size.lines)
    else:
        channel = live.dom0.session("sh")
    with _raw_terminal():
        open_ends = [channel, sys.stdin.fileno()]
        while True:
            ready, _, _ = select.select(open_ends, [], [])
            if channel in ready:
                data = channel.recv(_CHUNK)
                if not data:
                    return
                _out(data)
            if sys.stdin.fileno() in ready:
                typed = os.read(sys.stdin.fileno(), _CHUNK)
                if _LEAVE in typed:
                    return
                if typed:
                    channel.sendall(typed)
                else:  # end of a script on stdin
                    channel.shutdown_write()
                    open_ends.remove(sys.stdin.fileno())


def _console(live: Session) -> None:
    """Show the serial line and type into it until Ctrl-] or the end of stdin."""
    live.console.tap(_out)
    with _raw_terminal():
        while typed := os.read(sys.stdin.fileno(), _CHUNK):
            before, leave, _ = typed.partition(_LEAVE)
            live.console.type(before)
            if leave:
                return


def _out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    saved = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)
