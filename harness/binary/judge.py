# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole verdict on one hypervisor: its copies held against the model, the exploration, and the
order between data and the flag that publishes it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.arch import Arch
from harness.binary.check import BinaryCheck, check_binary
from harness.binary.copies import Text
from harness.binary.findings import Departure, Refinement
from harness.binary.prove import READERS, WRITERS, Proof, prove
from harness.binary.publish.verdict import Publishing, published
from harness.binary.tables import table_of
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.trace import trace_lines

MEMORY = {Arch.X86_64: MemoryModel.TSO, Arch.ARM64: MemoryModel.ARM}  # of a real machine


@dataclass(frozen=True)
class Judged:
    """What was found of one hypervisor, under one memory."""

    found: BinaryCheck
    memory: MemoryModel
    proofs: tuple[Proof, ...]
    publishing: tuple[Publishing, ...]
    seconds: float

    @property
    def functions(self) -> tuple[Refinement, ...]:
        """Everything that was looked at: the copies of lock functions, and what publishes."""
        return (*self.found.copies, *self.publishing)

    @property
    def coverage(self) -> float:
        """The part of their instructions that is understood."""
        total = sum(one.instructions for one in self.functions)
        return sum(one.understood for one in self.functions) / total if total else 0.0

    @property
    def verdict(self) -> str:
        """ "refuted", "not covered" or "as modelled"."""
        proofs = {proof.verdict for proof in self.proofs}
        found = {one.verdict for one in self.functions}
        if "refuted" in proofs | found:
            return "refuted"
        return "not covered" if "not covered" in found or proofs - {"proved"} else "as modelled"


def judge(elf: Path, model: str | None = None, memory: MemoryModel | None = None) -> Judged:
    """Judge ``elf``, a xen-syms; errors and ``model`` as of check_binary.

    ``memory``: of the machine; None: that of the architecture.
    """
    began = time.monotonic()
    found = check_binary(elf, model)
    chosen = memory or MEMORY[found.arch]
    proofs = prove(found.model, found.copies, chosen)
    publishing = published(Text(elf, found.arch), table_of(found.arch), chosen)
    return Judged(found, chosen, proofs, publishing, time.monotonic() - began)


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
        "coverage": round(judged.coverage, 4),
        "functions": [_function(one) for one in judged.functions],
        "missing": list(found.missing),
        "properties": properties,
        "refuted": [
            *(_refuted(copy, one) for copy in judged.functions for one in copy.departures),
            *(
                {"property": one.property, "trace": list(trace_lines(one.trace))}
                for proof in judged.proofs
                for one in proof.counterexamples
            ),
        ],
        "seconds": round(judged.seconds, 3),
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
        "publishes": copy.flag if isinstance(copy, Publishing) else None,
        "refines": copy.verdict == "as modelled",
        "verdict": copy.verdict,
        "accesses": [
            {"address": f"{address:#x}", "step": step} for address, step in sorted(copy.accesses)
        ],
    }


def _refuted(copy: Refinement, one: Departure) -> dict[str, Any]:
    return {
        "property": _property(copy, one),
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


def _property(copy: Refinement, one: Departure) -> str:
    if isinstance(copy, Publishing):
        return f"{copy.flag} is written behind what it publishes, and read before it"
    return f"{copy.function} is as modelled: {one.kind}"
