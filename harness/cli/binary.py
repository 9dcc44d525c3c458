# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness model binary``: the lock that the compiler made, held against the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from harness import cache
from harness.arch import Arch
from harness.binary.findings import Departure, Refinement
from harness.binary.judge import Judged, document, judge
from harness.binary.prove import READERS, WRITERS
from harness.cli import echo, print_json
from harness.cli.build import build_progress
from harness.cli.options import json_option, takes
from harness.config.options import XenOptions
from harness.hypervisor.build import build
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.trace import trace_lines
from harness.model.lock.locks import LOCKS
from harness.results import store
from harness.run.plan import open_hypervisor
from harness.verdict import EXIT_FAIL, EXIT_LAB, EXIT_PASS, ConfigError

_EXIT = {"as modelled": EXIT_PASS, "refuted": EXIT_FAIL, "not covered": EXIT_LAB}


@click.command("binary")
@click.argument("xen", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--arch",
    type=click.Choice([arch.value for arch in Arch]),
    help="Without XEN: the architecture for which the tree is built.",
)
@takes(
    XenOptions,
    "tree",
    model={
        "help": "The lock that it should be.",
        "unset": "by the type of its struct evtchn's lock",
        "choices": tuple(LOCKS),
    },
)
@click.option(
    "--memory",
    type=click.Choice([memory.value for memory in MemoryModel]),
    help="The memory of the machine.  [default: tso for x86-64, arm for arm64]",
)
@json_option
def command(
    xen: Path | None, arch: str | None, tree: XenOptions, memory: str | None, as_json: bool
) -> int:
    """Check the lock functions in a built Xen, instruction by instruction.

    XEN is a xen-syms, the directory of a build, or the directory of a run; without it, the tree
    that the options name is built for --arch (or taken from the cache).  Each copy of a lock
    function, inlined ones included, must make the accesses of the model, with barriers at least
    as strong.  Then the lock with the barriers that it has is explored.

    Exit code: 0 as modelled, 1 refuted, 3 something is not covered.
    """
    elf = _chosen(xen, arch, tree)
    judged = judge(elf, tree.model, MemoryModel(memory) if memory else None)
    if as_json:
        print_json(document(judged))
    else:
        _print(judged)
    return _EXIT[judged.verdict]


# -- which hypervisor ----------------------------------------------------------------------


def _chosen(xen: Path | None, arch: str | None, tree: XenOptions) -> Path:
    """Return the xen-syms that the command line names."""
    if xen is not None:
        if arch is not None or tree != XenOptions(model=tree.model):
            raise ConfigError(
                "XEN is built already: --arch and the options of a tree exclude it",
                hint="give either XEN, or --arch and a tree",
            )
        return _xen_syms(xen)
    if arch is None:
        raise ConfigError(
            "neither XEN nor --arch is given",
            hint="give the path of a built Xen, or --arch and the options of a tree (--xen-git)",
        )
    return _build(Arch(arch), replace(tree, model=None))


def _build(arch: Arch, tree: XenOptions) -> Path:
    opened = open_hypervisor(tree)
    with build_progress(f"{opened.flavour.name} {arch.value}") as progress:
        built = build(opened.source, opened.flavour, arch, opened.how, progress=progress)
    if not built.has_symbols:
        raise ConfigError(
            "the distribution's own build has no symbols: there is nothing to look up in it",
            where=f"Xen {built.source.version}",
            hint="give a tree with --xen-git or --xen-src",
        )
    return built.syms


def _xen_syms(path: Path) -> Path:
    """Return the xen-syms that ``path`` stands for; ConfigError if there is none."""
    if path.is_file():
        return path
    if (path / "xen-syms").is_file():
        return path / "xen-syms"
    hosts = store.load(path).hosts
    build_ids = sorted({host.build_id for host in hosts if host.build_id})
    if len(build_ids) != 1:
        raise ConfigError(
            f"the run is of {len(build_ids)} hypervisors, not of one",
            where=str(path),
            hint="give the directory of a build: `evtchn-harness build` prints where it is",
        )
    return _built(build_ids[0])


def _built(build_id: str) -> Path:
    for facts in sorted((cache.root() / "xen").glob("*/build.json")):
        syms = facts.parent / "xen-syms"
        if syms.is_file() and json.loads(facts.read_text()).get("build_id") == build_id:
            return syms
    raise ConfigError(
        f"the cache has no build with symbols whose build id is {build_id}",
        hint="build it again with `evtchn-harness build`",
    )


# -- what is told --------------------------------------------------------------------------


def _print(judged: Judged) -> None:
    found, memory, proofs = judged.found, judged.memory, judged.proofs
    copies = found.copies
    echo(
        f"{found.elf}: {found.arch.value}, {found.model.name}: {judged.verdict}\n"
        f"  {len(copies)} copies of {len({copy.function for copy in copies})} lock functions: "
        f"{_counts(copies)}; {judged.coverage:.1%} of "
        f"{sum(one.instructions for one in judged.functions)} instructions understood, "
        f"{judged.seconds:.1f} s"
    )
    for name in found.missing:
        echo(f"  {name}: not in this hypervisor")
    _print_each(copies)
    for flag in dict.fromkeys(one.flag for one in judged.publishing):
        its = [one for one in judged.publishing if one.flag == flag]
        echo(f"  {flag} and what it publishes: {len(its)} functions: {_counts(its)}")
        _print_each(its)
    for proof in proofs:
        echo(
            f"  {proof.system}: {proof.verdict}, memory {memory.value}, {READERS} readers, "
            f"{WRITERS} writer, {proof.states} states"
        )
        for counterexample in proof.counterexamples:
            for line in trace_lines(counterexample.trace):
                echo(f"    {line}")
    if not proofs:
        echo("  not explored: that needs every copy covered, and no other accesses")


def _counts(ones: Sequence[Refinement]) -> str:
    return ", ".join(
        f"{number} {verdict}"
        for verdict in ("as modelled", "refuted", "not covered")
        if (number := sum(one.verdict == verdict for one in ones))
    )


def _print_each(ones: Sequence[Refinement]) -> None:
    for copy in ones:
        for one in copy.departures:
            _print_departure(copy, one)
        for gap in copy.not_covered:
            where = f" at {gap.address:#x}" if gap.address else ""
            where += f" ({gap.line})" if gap.line else ""
            echo(f"  {_name(copy)}: not covered{where}: {gap.why}")


def _print_departure(copy: Refinement, one: Departure) -> None:
    where = f" ({one.line})" if one.line else ""
    echo(f"  {_name(copy)}: refuted at {one.address:#x} {one.instruction}{where}")
    echo(f"    here: {one.binary}")
    echo(f"    model: {one.model}")
    for number, line in enumerate(one.trace, 1):
        echo(f"    {number:4}. {line}")


def _name(copy: Refinement) -> str:
    inlined = f" in {copy.caller}" if copy.caller != copy.function else ""
    return f"{copy.function}{inlined}"
