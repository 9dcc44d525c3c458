# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole verdict on one hypervisor: its copies held against the model, and the exploration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.arch import Arch
from harness.binary.check import BinaryCheck, check_binary
from harness.binary.findings import Departure, Refinement
from harness.binary.prove import READERS, WRITERS, Proof, prove
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.trace import trace_lines

MEMORY = {Arch.X86_64: MemoryModel.TSO, Arch.ARM64: MemoryModel.ARM}  # of a real machine


@dataclass(frozen=True)
class Judged:
    """What was found of one hypervisor, under one memory."""

    found: BinaryCheck
    memory: MemoryModel
    proofs: tuple[Proof, ...]

    @property
    def verdict(self) -> str:
        """ "refuted", "not covered" or "as modelled"."""
        if any(proof.verdict == "refuted" for proof in self.proofs):
            return "refuted"
        found = self.found.verdict
        if found == "as modelled" and any(proof.verdict != "proved" for proof in self.proofs):
            return "not covered"
        return found


def judge(elf: Path, model: str | None = None, memory: MemoryModel | None = None) -> Judged:
    """Judge ``elf``, a xen-syms; errors and ``model`` as of check_binary.

    ``memory``: of the machine; None: that of the architecture.
    """
    found = check_binary(elf, model)
    chosen = memory or MEMORY[found.arch]
    return Judged(found, chosen, prove(found.model, found.copies, chosen))


def document(judged: Judged) -> dict[str, Any]:
    """Return ``judged`` as plain JSON values: what ``model binary --json`` prints."""
    found = judged.found
    properties = [
        {"property": proof.system, "verdict": proof.verdict, "states": proof.states}
        for proof in judged.proofs
    ]
    return {
        "xen": str(found.elf),
        "arch": found.arch.value,
        "model": found.model.name,
        "memory": judged.memory.value,
        "readers": READERS,
        "writers": WRITERS,
        "verdict": judged.verdict,
        "coverage": round(found.coverage, 4),
        "functions": [_function(copy) for copy in found.copies],
        "missing": list(found.missing),
        "properties": properties,
        "refuted": [
            *(_refuted(copy, one) for copy in found.copies for one in copy.departures),
            *(
                {"property": one.property, "trace": list(trace_lines(one.trace))}
                for proof in judged.proofs
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
