# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness build``: build a hypervisor from source, with a flavour's patches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from harness.arch import Arch
from harness.cli import echo, print_json
from harness.cli.options import json_option, takes
from harness.config.options import XenOptions
from harness.hypervisor.build import Build, build
from harness.hypervisor.make import Progress
from harness.run.plan import open_hypervisor


@click.command("build")
@click.option(
    "--arch",
    required=True,
    type=click.Choice([arch.value for arch in Arch]),
    help="Architecture of the hypervisor.",
)
@takes(XenOptions, "xen")
@json_option
def command(arch: str, xen: XenOptions, as_json: bool) -> None:
    """Build the hypervisor and print the path of its image.

    Without a --xen option, the source is the distribution's source package of Xen 4.17.  If the
    same source, patches and configuration were built before with the same compiler, that build
    is taken from the cache.
    """
    found = open_hypervisor(xen)
    with build_progress(f"{found.flavour.name} {arch}") as progress:
        built = build(found.source, found.flavour, Arch(arch), found.how, progress=progress)
    if as_json:
        print_json(document(built))
    else:
        how = "cached" if built.cached else f"{built.seconds:.0f} s"
        origin = f" (images/xen/{built.origin})" if built.origin else ""
        echo(
            f"{arch} {built.flavour}{origin}: Xen {found.source.version}, "
            f"build id {built.build_id} ({how})"
        )
        echo(str(built.image))


def document(built: Build) -> dict[str, Any]:
    """Return ``built`` as the JSON object that ``build --json`` documents."""
    return {
        "arch": built.arch.value,
        "flavour": built.flavour,
        "flavour_from": built.origin,
        "source": built.source.kind,
        "version": built.source.version,
        "series": [asdict(patch) for patch in built.source.series],
        "model": {
            "name": built.model.name,
            "how": built.model.how,
            "from": built.model.source,
        },
        "build_id": built.build_id,
        "image": str(built.image),
        "syms": str(built.syms),
        "digest": built.digest,
        "source_digest": built.source.digest,
        "compiler": built.compiler,
        "seconds": built.seconds,
        "cached": built.cached,
    }


@contextmanager
def build_progress(what: str) -> Iterator[Progress | None]:
    """Yield a function that updates a line on stderr; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(compiled: int) -> None:
        click.echo(f"\r{what}: {compiled} objects compiled", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
