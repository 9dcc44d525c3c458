# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus: every flavour for a tree, and for each known-bad one the test that must catch it.

A flavour that has an ``entry.yaml`` beside its ``series`` is known to be bad:

    kind: deterministic | racy | model-only
    caught_by: test_hypercalls.py::test_poll_of_a_closed_port_leaves_it_usable
    forced_by: masked-close  (a scenario that forces the failure, if no test case shows it alone)
    in_binary: evtchn_read_unlock  (a lock function that `model binary` refutes: needs no shows)
    shows: {hang: evtchn_write_lock}, or just hang  (the evidence that the failure must have)
    cannot_show: why nothing can catch it (instead of the four above)
    arches: [x86_64]  (if not all architectures show it; cannot_show says why the others do not)
    without_domus: true  (if no domU can start because of the fault)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from harness.arch import Arch
from harness.config import bounded_yaml
from harness.evidence.pattern import Pattern, patterns
from harness.hypervisor import flavour as flavours
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

_ROOT = "counter"  # nearly all known-bad flavours are made from it

Kind = Literal["good", "deterministic", "racy", "model-only"]


class Entry(BaseModel):
    """One flavour of the corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Kind
    caught_by: str = ""  # a pytest node id below testcases/
    forced_by: str = ""  # a scenario of ``interleave``
    in_binary: str = ""  # a lock function that differs from the model in the machine code
    shows: tuple[Pattern, ...] = ()  # the evidence must match one of them
    arches: tuple[Arch, ...] = tuple(Arch)
    cannot_show: str = ""
    without_domus: bool = False
    misfit: str = ""  # why it cannot be built of the tree: what of its series does not fit

    @property
    def good(self) -> bool:
        """Whether every test must pass."""
        return self.kind == "good"

    def can_show_on(self, arch: Arch) -> bool:
        """Return whether a machine of architecture ``arch``, or the machine code for it, can show
        the fault; or that it is good."""
        if self.misfit:
            return False
        return self.good or (bool(self.shows or self.in_binary) and arch in self.arches)

    @field_validator("shows", mode="before")
    @classmethod
    def _read(cls, document: object) -> object:
        return document if isinstance(document, tuple) else patterns(document)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        ways = [way for way in (self.caught_by, self.forced_by, self.in_binary) if way]
        somewhere = len(ways) == 1 and bool(self.shows) != bool(self.in_binary)
        everywhere = somewhere and set(self.arches) == set(Arch)
        if not self.good and (bool(ways) != somewhere or bool(self.cannot_show) == everywhere):
            raise ValueError(
                "give shows and either caught_by or forced_by; or cannot_show; or in_binary;"
                " and cannot_show as well, if arches does not name all architectures"
            )
        return self


def entries_for(source: Source) -> dict[str, Entry]:
    """Return the entries for ``source`` by name, the good flavours first.

    These are the flavours of the folder that its ``counter`` is from; one whose series does not
    fit has ``misfit``.  ConfigError if the tree is not one that flavours can be made of, or an
    ``entry.yaml`` is missing or wrong.
    """
    shelf = flavours.find(_ROOT, source).shelf
    if shelf is None:
        raise ConfigError(
            f"this tree has the lock of {_ROOT} already: no flavours can be made of it",
            where=str(source.tree),
            hint=f"take a tree whose lock is {flavours.AS_IT_STANDS}, or test this one with run",
        )
    known = read_entries(shelf.folders, flavours.SHELF)
    return {name: _fitted(entry, source) for name, entry in known.items()}


def _fitted(entry: Entry, source: Source) -> Entry:
    try:
        flavours.find(entry.name, source)
    except ConfigError as error:
        return entry.model_copy(update={"misfit": f"{error.where}: {error.what}"})
    return entry


def read_entries(folders: Sequence[str], shelf: Path = flavours.SHELF) -> dict[str, Entry]:
    """Return the entries of ``folders`` of ``shelf`` by name, the good flavours first; of one name
    the first.

    ConfigError if an ``entry.yaml`` is missing or wrong.
    """
    found = {flavours.AS_IT_STANDS: Entry(name=flavours.AS_IT_STANDS, kind="good")}
    for home in (shelf / folder for folder in folders):
        for series in [*sorted(home.glob("*/series")), *sorted(home.glob("bad/*/series"))]:
            found.setdefault(series.parent.name, _read(series.parent))
    if len(found) == 1:
        raise ConfigError(f"there is no corpus for Xen {folders[0]}", where=str(shelf / folders[0]))
    return dict(sorted(found.items(), key=lambda item: not item[1].good))


def _read(folder: Path) -> Entry:
    file = folder / "entry.yaml"
    if not file.is_file():
        if folder.parent.name == "bad":
            raise ConfigError(
                "a known-bad flavour must say what catches it",
                where=str(file),
                hint="write kind, caught_by and shows there",
            )
        return Entry(name=folder.name, kind="good")
    try:
        fields = bounded_yaml.read(file)
        return Entry(name=folder.name, **(fields if isinstance(fields, dict) else {}))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        reason = first.get("ctx", {}).get("error", first["msg"])
        raise ConfigError(f"{field or 'entry'}: {reason}", where=str(file)) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(str(error).replace("\n", " "), where=str(file)) from error
