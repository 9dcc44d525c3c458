# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict of one hypervisor: every copy of its channels' lock functions."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from harness.arch import Arch
from harness.binary.copies import Text, architecture
from harness.binary.findings import Refinement
from harness.binary.modelled import ModelledLock, modelled_lock
from harness.binary.refine import refine
from harness.binary.tables import Table, table_of
from harness.hypervisor.dwarf.types import record
from harness.hypervisor.locks import Kind, channel_kind
from harness.hypervisor.rwlock_word import LAYOUTS
from harness.verdict import ConfigError, HarnessError

_CHANNELS = "common/event_channel.c"
_MODELS = {
    Kind.COUNTER: "counter",
    Kind.RWLOCK: "rwlock",
    Kind.SPINLOCK: "spinlock",
    Kind.RECURSIVE: "spinlock",
}


@dataclass(frozen=True)
class BinaryCheck:
    """What was found of one hypervisor."""

    elf: Path
    arch: Arch
    model: ModelledLock
    copies: tuple[Refinement, ...]
    missing: tuple[str, ...]  # lock functions of the model that the hypervisor has not
    seconds: float

    @property
    def coverage(self) -> float:
        """The part of the copies' instructions whose meaning is known."""
        total = sum(copy.instructions for copy in self.copies)
        return sum(copy.understood for copy in self.copies) / total if total else 0.0

    @property
    def verdict(self) -> str:
        """ "refuted", "not covered" or "as modelled"."""
        found = {copy.verdict for copy in self.copies}
        return next((v for v in ("refuted", "not covered") if v in found), "as modelled")


def check_binary(elf: Path, model: str | None = None, table: Table | None = None) -> BinaryCheck:
    """Hold the lock functions of ``elf``, a xen-syms, against ``model`` (None: its own lock's).

    ConfigError if it has no lock that is known, or none of the model's functions.
    """
    began = time.monotonic()
    arch = architecture(elf)
    text, table = Text(elf, arch), table or table_of(arch)
    modelled = _modelled(text, model or _own_model(elf), table)
    names = frozenset(modelled.functions)
    copies = text.copies(names)
    if not copies:
        raise ConfigError(
            f"has none of the lock functions {', '.join(sorted(names))}",
            where=str(elf),
            hint="say with --model which lock it has",
        )
    offset = record(elf, "evtchn", _CHANNELS)[modelled.member].offset if modelled.member else 0
    found = tuple(refine(text, copy, modelled, offset, table) for copy in copies)
    missing = tuple(sorted(names - {copy.function for copy in copies}))
    return BinaryCheck(elf, arch, modelled, found, missing, time.monotonic() - began)


def _modelled(text: Text, name: str, table: Table) -> ModelledLock:
    """Return what the model has for ``name``, the lock word laid out as this build has it."""
    made = modelled_lock(name, text.arch)
    if name == "rwlock":
        unlocks = text.copies(frozenset({"_read_unlock"}))
        for layout in LAYOUTS:
            tried = modelled_lock(name, text.arch, layout)
            found = [refine(text, copy, tried, 0, table) for copy in unlocks[:3]]
            if any(all(d.kind == "order" for d in one.departures) for one in found):
                made = tried
                break
    try:
        size = record(text.elf, made.type, _CHANNELS).size
    except HarnessError:  # an older name of the structure: nothing beside the word is known
        return made
    return replace(made, size=size)


def _own_model(elf: Path) -> str:
    kind = channel_kind(elf)
    if kind is None or kind not in _MODELS:
        raise ConfigError(
            "the lock in its struct evtchn is none that is known",
            where=str(elf),
            hint="say with --model by which lock's rules to judge",
        )
    return _MODELS[kind]
