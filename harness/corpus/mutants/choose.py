# SPDX-License-Identifier: GPL-2.0-or-later
"""Choose mutants of a flavoured tree: by number and seed, always the same ones."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.corpus.mutants.c_source import CFile
from harness.corpus.mutants.operators import OPERATORS, Fault, faults
from harness.hypervisor import patches

_HUNK = re.compile(r"@@ -(\d+)")


@dataclass(frozen=True)
class Mutant:
    """One fault in one file of Xen."""

    number: int  # from 1, in the order of the files and lines
    file: str  # relative to the tree
    line: int  # from 1
    fault: Fault
    diff: str  # unified, of the flavoured tree; `patch -p1` takes it

    @property
    def function(self) -> str:
        """The function that it is in."""
        return self.fault.function

    @property
    def operator(self) -> str:
        """The rule that made it: one of OPERATORS."""
        return self.fault.operator


def choose(texts: Mapping[str, bytes], count: int, seed: int) -> list[Mutant]:
    """Return ``count`` mutants of ``texts``, or as many as there are; the same for the same seed.

    Each rule gives as many as the others, until it has no more: of the common ones (a condition
    negated) there are ten times as many places as of the rare ones (a barrier), and a choice by
    chance alone would leave those out.  Two mutants never overlap without one being inside the
    other, so all of them fit into one Xen.
    """
    piles: dict[str, list[tuple[str, Fault]]] = {operator: [] for operator in OPERATORS}
    for name, text in texts.items():
        for fault in _distinct(faults(CFile(text))):
            piles[fault.operator].append((name, fault))
    dice = random.Random(seed)
    for pile in piles.values():
        dice.shuffle(pile)
    chosen: list[tuple[str, Fault]] = []
    while len(chosen) < count and any(piles.values()):
        for pile in piles.values():
            while pile and len(chosen) < count:
                name, fault = pile.pop()
                if all(_fits(fault, other) for file, other in chosen if file == name):
                    chosen.append((name, fault))
                    break
    order = {name: number for number, name in enumerate(texts)}
    chosen.sort(key=lambda one: (order[one[0]], one[1].start, one[1].end, one[1].mutated))
    return [
        _mutant(number, name, texts[name], fault)
        for number, (name, fault) in enumerate(chosen, start=1)
    ]


def applied(text: bytes, fault: Fault) -> bytes:
    """Return ``text`` with ``fault``: the mutant as a person would write it."""
    start, end = fault.start, fault.end
    if not fault.mutated:
        line, stop = text.rfind(b"\n", 0, start) + 1, text.find(b"\n", end)
        alone = not text[line:start].strip() and not text[end:stop].strip()
        if alone and _is_in_block(text, line):
            return text[:line] + text[stop + 1 :]
        return text[:start] + b";" + text[end:]
    return text[:start] + fault.mutated.encode() + text[end:]


def _is_in_block(text: bytes, line: int) -> bool:
    """Return whether the statement whose line begins at ``line`` can go: an if needs a body."""
    before = text[:line].rstrip()
    return before.endswith((b";", b"{", b"}", b"*/"))


def _mutant(number: int, name: str, text: bytes, fault: Fault) -> Mutant:
    line = text.count(b"\n", 0, fault.start) + 1
    mutated = applied(text, fault)
    return Mutant(number, name, line, fault, diff(name, text, mutated))


def diff(name: str, before: bytes, after: bytes) -> str:
    """Return the unified diff of file ``name``, with the functions where git would write them."""
    old, new = (text.decode(errors="surrogateescape").splitlines(True) for text in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(_headed(line, old) for line in lines)


def _headed(line: str, old: Sequence[str]) -> str:
    found = _HUNK.match(line)
    function = patches.function_at(old, int(found[1])) if found else ""
    return f"{line.rstrip()} {function}()\n" if function else line


def _distinct(found: Iterable[Fault]) -> list[Fault]:
    """Return each change once: two rules may make the same one."""
    known: dict[tuple[int, int, str], Fault] = {}
    for fault in found:
        known.setdefault((fault.start, fault.end, " ".join(fault.mutated.split())), fault)
    return list(known.values())


def _fits(one: Fault, other: Fault) -> bool:
    """Return whether two faults are apart, or one is inside the other."""
    apart = one.end <= other.start or other.end <= one.start
    inside = one.start <= other.start and other.end <= one.end
    around = other.start <= one.start and one.end <= other.end
    return apart or inside or around
