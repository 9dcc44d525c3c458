# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness model binary``: the lock that the compiler made, held against the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness import cache
from harness.binary.check import BinaryCheck, check_binary
from harness.binary.prove import READERS, WRITERS, Proof, prove
from harness.binary.refine import Departure, Refinement
from harness.cli import echo, print_json
from harness.cli.options import json_option
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.trace import trace_lines
from harness.model.lock.locks import LOCKS
from harness.results import store
from harness.verdict import EXIT_FAIL, EXIT_LAB, EXIT_PASS, ConfigError

_EXIT = {"as modelled": EXIT_PASS, "refuted": EXIT_FAIL, "not covered": EXIT_LAB}
_MEMORY = {"x86_64": MemoryModel.TSO, "arm64": MemoryModel.ARM}


@click.command("binary")
@click.argument("xen", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--model",
    type=click.Choice(list(LOCKS)),
    help="The lock that it should be.  [default: by the type of its struct evtchn's lock]",
)
@click.option(
    "--memory",
    type=click.Choice([memory.value for memory in MemoryModel]),
    help="The memory of the machine.  [default: tso for x86-64, arm for arm64]",
)
@json_option
def command(xen: Path, model: str | None, memory: str | None, as_json: bool) -> int:
    """Check the lock functions in a built Xen, instruction by instruction.

    XEN is a xen-syms, the directory of a build, or the directory of a run.  Each copy of a lock
    function, inlined ones included, must make the accesses of the model, with barriers at least
    as strong.  Then the lock with the barriers that it has is explored.

    Exit code: 0 as modelled, 1 refuted, 3 something is not covered.
    """
    found = check_binary(_xen_syms(xen), model)
    chosen = MemoryModel(memory) if memory else _MEMORY[found.arch.value]
    proofs = prove(found.model, found.copies, chosen)
    if as_json:
        print_json(_document(found, chosen, proofs))
    else:
        _print(found, chosen, proofs)
    return _EXIT[_verdict(found, proofs)]


def _verdict(found: BinaryCheck, proofs: tuple[Proof, ...]) -> str:
    if any(proof.verdict == "refuted" for proof in proofs):
        return "refuted"
    if found.verdict == "as modelled" and any(p.verdict != "proved" for p in proofs):
        return "not covered"
    return found.verdict


# -- which hypervisor ----------------------------------------------------------------------


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


def _document(found: BinaryCheck, memory: MemoryModel, proofs: tuple[Proof, ...]) -> dict[str, Any]:
    properties = [
        {"property": proof.system, "verdict": proof.verdict, "states": proof.states}
        for proof in proofs
    ]
    return {
        "xen": str(found.elf),
        "arch": found.arch.value,
        "model": found.model.name,
        "memory": memory.value,
        "readers": READERS,
        "writers": WRITERS,
        "verdict": _verdict(found, proofs),
        "coverage": round(found.coverage, 4),
        "functions": [_function(copy) for copy in found.copies],
        "missing": list(found.missing),
        "properties": properties,
        "refuted": [
            *(_refuted(copy, one) for copy in found.copies for one in copy.departures),
            *(
                {"property": one.property, "trace": list(trace_lines(one.trace))}
                for proof in proofs
                for one in proof.counterexamples
            ),
        ],
        "seconds": round(found.seconds, 3),
    }


def _function(copy: Refinement) -> dict[str, Any]:
    return {
        "name": copy.function,
        "caller": copy.caller,
        "address": f"{copy.address:#x}",
        "instructions": copy.instructions,
        "covered": not copy.not_covered,
        "not_covered": [
            {"address": f"{one.address:#x}", "line": one.line, "why": one.why}
            for one in copy.not_covered
        ],
        "refines": copy.verdict == "as modelled",
        "verdict": copy.verdict,
        "accesses": [
            {"address": f"{address:#x}", "step": step} for address, step in sorted(copy.accesses)
        ],
    }


def _refuted(copy: Refinement, one: Departure) -> dict[str, Any]:
    return {
        "property": f"{copy.function} is as modelled: {one.kind}",
        "function": copy.function,
        "caller": copy.caller,
        "address": f"{one.address:#x}",
        "instruction": one.instruction,
        "line": one.line,
        "step": one.step,
        "binary": one.binary,
        "model": one.model,
        "trace": list(one.trace),
    }


def _print(found: BinaryCheck, memory: MemoryModel, proofs: tuple[Proof, ...]) -> None:
    copies = found.copies
    counts = ", ".join(
        f"{number} {verdict}"
        for verdict in ("as modelled", "refuted", "not covered")
        if (number := sum(copy.verdict == verdict for copy in copies))
    )
    echo(
        f"{found.elf}: {found.arch.value}, {found.model.name}: {_verdict(found, proofs)}\n"
        f"  {len(copies)} copies of {len({copy.function for copy in copies})} lock functions: "
        f"{counts}; {found.coverage:.1%} of {sum(copy.instructions for copy in copies)} "
        f"instructions understood, {found.seconds:.1f} s"
    )
    for name in found.missing:
        echo(f"  {name}: not in this hypervisor")
    for copy in copies:
        for one in copy.departures:
            _print_departure(copy, one)
        for gap in copy.not_covered:
            where = f" ({gap.line})" if gap.line else ""
            echo(f"  {_name(copy)}: not covered at {gap.address:#x}{where}: {gap.why}")
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
