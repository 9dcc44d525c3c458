# SPDX-License-Identifier: GPL-2.0-or-later
"""What the compiler says of mutants: which ones compile, and which ones change no object code."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section

from harness import cache, command
from harness.arch import Arch
from harness.corpus.mutants.choose import Mutant
from harness.corpus.mutants.schema import one_line, patch, schema
from harness.hypervisor import build
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.make import step
from harness.hypervisor.recipe import How, Recipe, recipe
from harness.hypervisor.source import Source
from harness.scratch import scratch
from harness.verdict import BuildError

_SHELF = "mutants"
_OBJECTS = ("common/event_channel.o", "common/event_2l.o", "common/event_fifo.o")
_PATCH, _DROPPED = "schema.patch", "dropped.json"
_MENTIONED = re.compile(r"^(?:In file included from )?(?P<file>[^\s:]+):(?P<line>\d+)[:,]", re.M)
_IN_FUNCTION = re.compile(r"In function .(\w+).:|inlined from .(\w+).")
_ALLOCATED = 0x2  # SHF_ALLOC: what is in memory when Xen runs

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """For what is compiled."""

    source: Source
    flavour: Flavour
    arch: Arch
    how: How

    @property
    def recipe(self) -> Recipe:
        """How this tree is built."""
        return recipe(self.arch, self.source.release, self.how, self.source.era)


@dataclass(frozen=True)
class Fitted:
    """The mutants that compile together, the Xen that has them, and the others."""

    mutants: tuple[Mutant, ...]
    dropped: Mapping[int, str]  # number -> the compiler's error
    flavour: Flavour  # the flavour with the patch that adds the mutants


def fitted(
    target: Target, texts: Mapping[str, bytes], mutants: Sequence[Mutant], notice: Notice
) -> Fitted:
    """Return those of ``mutants`` that compile for ``target`` in one Xen, and their patch.

    ``texts`` as of event_channels.flavoured.  Only the objects of event channels are compiled,
    again and again without what the compiler's errors name; the result is in the cache.
    """
    wanted = patch(texts, mutants)
    way = target.recipe
    key = cache.key(target.source.digest, target.flavour.digest, target.arch, way.as_data(), wanted)

    def make(folder: Path) -> None:
        with tree_of(target, notice) as tree:
            kept, dropped = _sift(_Objects(tree, way, texts), mutants, notice)
        (folder / _PATCH).write_text(patch(texts, kept))
        (folder / _DROPPED).write_text(json.dumps(dropped))

    folder = cache.entry(_SHELF, key, make)
    told = json.loads((folder / _DROPPED).read_text())
    dropped = {int(number): str(why) for number, why in told.items()}
    return Fitted(
        tuple(one for one in mutants if one.number not in dropped),
        dropped,
        with_patch(target.flavour, folder / _PATCH),
    )


def with_patch(flavour: Flavour, patch: Path) -> Flavour:
    """Return ``flavour`` with one more ``patch``, judged by the same lock's rules."""
    return replace(flavour, patches=(*flavour.patches, patch), judged_as=flavour.model)


def same_code(
    target: Target, texts: Mapping[str, bytes], mutants: Sequence[Mutant], notice: Notice
) -> set[int]:
    """Return the numbers of those of ``mutants`` that compile, alone, to the code of the original.

    No guest can see these.  Of a mutant in a header nothing is said: other files use it as well.
    """
    asked = [one for one in mutants if one.file.endswith(".c")]
    if not asked:
        return set()
    same = set()
    with tree_of(target, notice) as tree:
        objects = _Objects(tree, target.recipe, texts)
        objects.write(texts)
        objects.make()
        original = {name: code(tree / "xen" / name) for name in _OBJECTS}
        for done, one in enumerate(asked):
            notice(f"comparing object code: {done} of {len(asked)}")
            objects.write({**texts, one.file: unmoved(texts[one.file], one)})
            if objects.make():
                continue  # alone it is refused: where it is unused, say
            name = f"common/{Path(one.file).stem}.o"
            if code(tree / "xen" / name) == original[name]:
                same.add(one.number)
    return same


def unmoved(text: bytes, mutant: Mutant) -> bytes:
    """Return ``text`` with ``mutant``, on the lines where it was: Xen's code has line numbers."""
    fault = mutant.fault
    lines = text.count(b"\n", fault.start, fault.end)
    mutated = (one_line(fault.mutated) or ";").encode() + b"\n" * lines
    return text[: fault.start] + mutated + text[fault.end :]


def code(file: Path) -> list[tuple[object, ...]]:
    """Return what of an object file is in memory when it runs, with where its symbols go."""
    found: list[tuple[object, ...]] = []
    with file.open("rb") as opened:
        elf = ELFFile(opened)
        for number, section in enumerate(elf.iter_sections()):
            if section["sh_flags"] & _ALLOCATED:
                found.append((section.name, section["sh_size"], section.data()))
            elif isinstance(section, RelocationSection):
                at = elf.get_section(section["sh_info"])
                if at["sh_flags"] & _ALLOCATED:
                    found.append((section.name, number, *_relocations(elf, section)))
    return found


def _relocations(elf: ELFFile, section: RelocationSection) -> Iterator[tuple[object, ...]]:
    symbols: Section = elf.get_section(section["sh_link"])
    for one in section.iter_relocations():
        symbol = symbols.get_symbol(one["r_info_sym"])
        where = symbol.name or elf.get_section(symbol["st_shndx"]).name
        yield (one["r_offset"], one["r_info_type"], where, one["r_addend"])


class _Objects:
    """The objects of event channels in a tree that was built once."""

    def __init__(self, tree: Path, way: Recipe, texts: Mapping[str, bytes]) -> None:
        self._tree, self._way, self._texts = tree, way, texts

    def write(self, texts: Mapping[str, bytes]) -> None:
        """Write ``texts`` into the tree, where they differ."""
        for name, text in texts.items():
            path = self._tree / name
            if not path.is_file() or path.read_bytes() != text:
                path.write_bytes(text)

    def make(self) -> str:
        """Compile the objects; return what the compiler says against them, "" if nothing."""
        try:
            command.run(self._way.make(self._tree, ["-k", *_OBJECTS]))
        except command.CommandFailed as error:
            return error.output or error.what
        return ""

    def refused(self, mutants: Sequence[Mutant]) -> str:
        """Compile a Xen with ``mutants``; return what the compiler says against it."""
        self.write(schema(self._texts, mutants))
        return self.make()

    def named(self, said: str, mutants: Sequence[Mutant]) -> list[Mutant]:
        """Return those of ``mutants`` that stand on a line in what the compiler ``said``.

        If there is none: those in a function that it names (of a variable that is not set on some
        way, it names a line that reads it); else all.
        """
        lines = {(Path(name).name, int(line)) for name, line in _MENTIONED.findall(said)}
        functions = {name for names in _IN_FUNCTION.findall(said) for name in names}
        on_line = [
            one
            for one in mutants
            if any((Path(one.file).name, line) in lines for line in self._lines(one))
        ]
        return on_line or [one for one in mutants if one.function in functions] or list(mutants)

    def _lines(self, one: Mutant) -> range:
        """Return the lines of a mutant's place in the file; in event.h one line was added."""
        text = self._texts[one.file]
        more = text.count(b"\n", one.fault.start, one.fault.end)
        added = 1 if one.file.endswith("xen/event.h") else 0
        return range(one.line + added, one.line + added + more + 1)


def _sift(
    objects: _Objects, mutants: Sequence[Mutant], notice: Notice
) -> tuple[list[Mutant], dict[int, str]]:
    """Return the mutants that compile together, and the error of each other one."""
    kept, suspects = list(mutants), list[Mutant]()
    while said := objects.refused(kept):
        if not kept:
            raise BuildError(_error(said), where=_OBJECTS[0])
        named = objects.named(said, kept)
        suspects += named
        kept = [one for one in kept if one not in named]
        notice(f"{len(suspects)} of {len(mutants)} mutants stand where the compiler complains")
    dropped: dict[int, str] = {}
    todo = [suspects] if suspects else []
    while todo:
        group = todo.pop()
        notice(f"{sum(map(len, todo)) + len(group)} mutants to try in smaller groups")
        if not (said := objects.refused([*kept, *group])):
            kept += group
        elif len(group) == 1:
            dropped[group[0].number] = _error(said)
        else:
            half = len(group) // 2
            todo += [group[half:], group[:half]]
    kept.sort(key=lambda one: one.number)
    return kept, dropped


def _error(said: str) -> str:
    """Return the compiler's first error without the place."""
    found = re.search(r"error: (.*)", said)
    return found[1] if found else (said.strip().splitlines() or ["the compiler refuses it"])[-1]


@contextmanager
def tree_of(target: Target, notice: Notice) -> Iterator[Path]:
    """Yield a tree of the flavour as it is, built once: its generated headers are there."""
    way = target.recipe
    with scratch() as folder:
        tree, log = folder / "tree", folder / "build.log"
        log.touch()
        notice("preparing a tree in which the mutants are compiled")
        build.lay(target.source, target.flavour, way, tree, log)
        step(way.make(tree, [f"-j{os.cpu_count() or 1}"]), tree / "xen", tree, log)
        yield tree
