# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the toolstack of a Xen tree for dom0: source in, files for dom0 out, cached.

An entry of the cache holds what dom0 needs, as it is placed below its /run/harness/toolstack:
bin/, lib/ and libvirt/.  Its key is what goes in, of the tree the toolstack's own sources and
Xen's public headers: neighbours in a bisection share it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from harness import apt, cache, command
from harness.arch import Arch
from harness.hypervisor.make import Progress, counted, step
from harness.hypervisor.source import Source
from harness.toolstack import eras, libvirt, recipe, version_word
from harness.toolstack import tree as trees
from harness.toolstack.headers import PUBLIC
from harness.toolstack.interface import Interface, interface
from harness.toolstack.recipe import Compiler
from harness.toolstack.sysroot import Sysroot, programs, sysroot
from harness.toolstack.version_word import Interfaces
from harness.verdict import BuildError, LabError

_SHELF = "toolstack"
_LOG, _FACTS, _INTERFACE = "build.log", "toolstack.json", "interface.json"
FILES = "files"


@dataclass(frozen=True)
class Toolstack:
    """A toolstack for dom0.  The files are in the cache: read, never write."""

    arch: Arch
    files: Path  # bin/, lib/, libvirt/
    version: str  # of the tree that it was first built from
    interfaces: Interfaces
    digest: str  # of everything that went in

    @property
    def interface(self) -> Interface:
        """All that the headers that it was built from say."""
        types, constants = json.loads((self.files.parent / _INTERFACE).read_text())
        return Interface(types, constants)


_failed: dict[str, BuildError] = {}  # by a job's digest


@dataclass(frozen=True)
class Job:
    """The building of one toolstack; ``digest`` is of all that goes in."""

    source: Source
    libvirt: Path
    root: Sysroot
    compiler: Compiler
    content: str  # digest of what goes in of the tree
    digest: str

    @classmethod
    def of(cls, source: Source, arch: Arch, codename: str, notice: apt.Notice) -> Job:
        """Gather what a toolstack of ``source`` for a dom0 of release ``codename`` is built from.

        LabError when a package cannot be had.
        """
        root = sysroot(arch, codename=codename, notice=notice)
        driver = apt.source_package("libvirt", root.libvirt, codename=codename, notice=notice)
        compiler = Compiler(arch, root.tree, programs(notice=notice))
        version = compiler.version()
        content = trees.digest(source)
        digest = cache.key(content, arch, root.digest, driver.version, version, _recipe())
        return cls(source, driver.tree, root, compiler, content, digest)

    @property
    def is_made(self) -> bool:
        """Whether the cache has it."""
        return (cache.root() / _SHELF / self.digest).is_dir()

    def run(self, progress: Progress | None = None) -> Toolstack:
        """Return the toolstack, built if the cache lacks it.

        BuildError with the first error of the tree's tools and the log's path; what has failed once
        in this process is not tried again, at each boot of a bisection for example.
        """
        if self.digest in _failed:
            raise _failed[self.digest]
        try:
            return _read(cache.entry(_SHELF, self.digest, lambda work: self._make(work, progress)))
        except BuildError as error:
            _failed[self.digest] = error
            raise

    def _make(self, work: Path, progress: Progress | None) -> None:
        """Fill the cache entry ``work``."""
        tree = work / "tree"
        trees.copy(self.source, tree)
        copied = [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]
        if cache.digest_files(copied, base=tree) != self.content:
            raise LabError(
                "the tree changed while it was being copied",
                where=str(self.source.tree),
                hint="run again",
            )
        eras.apply(tree)
        trees.configure(tree, recipe.answers(self.compiler))
        _check(tree)
        log = cache.shelf(f"{_SHELF}-logs") / f"{self.digest}.log"
        log.unlink(missing_ok=True)
        with counted(tree, progress):
            for folder, words in recipe.steps(tree, self.compiler):
                step(words, folder, tree, log)
            driver = self._driver(tree, log)
        self._collect(tree, driver, work / FILES)
        with contextlib.suppress(command.CommandFailed):  # then it serves this tree only
            said = interface(self.source.tree / PUBLIC, self.compiler)
            (work / _INTERFACE).write_text(json.dumps([said.types, said.constants]))
        shutil.move(log, work / _LOG)
        shutil.rmtree(tree)
        has = version_word.interfaces(self.source)
        facts = {
            "arch": self.compiler.arch,
            "version": self.source.version,
            "interfaces": [has.domctl, has.sysctl] if has else [0, 0],
            "root": self.root.digest,
            "recipe": _recipe(),
        }
        (work / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")

    def _driver(self, tree: Path, log: Path) -> Path:
        """Build libvirt's driver against what has been made of ``tree``."""
        release = self.source.release
        folder = libvirt.prepare(self.libvirt, tree, release, self.root, self.compiler)
        try:
            step(recipe.make(tree, folder, self.compiler), folder, tree, log)
        except BuildError as error:
            what = f"libvirt's Xen driver does not fit this libxl: {error.what}"
            raise BuildError(what, where=error.where, hint=error.hint) from None
        return folder / libvirt.DRIVER

    def _collect(self, tree: Path, driver: Path, files: Path) -> None:
        """Copy what dom0 needs, without symbols, under the names that it is looked for by."""
        for name in ("bin", "lib", "libvirt"):
            (files / name).mkdir(parents=True)
        for product in recipe.LIBRARIES:
            place = recipe.find(tree, product)
            if place is not None:
                library = place / product.name
                shutil.copy(library, files / "lib" / _soname(library))
        for product in recipe.PROGRAMS:
            place = recipe.find(tree, product)
            assert place is not None  # _check has seen to it
            shutil.copy(place / product.name, files / "bin" / product.name)
        shutil.copy(driver, files / "libvirt" / driver.name)
        made = [path for path in files.rglob("*") if path.is_file()]
        command.run([self.compiler.tool("strip"), "--strip-unneeded", *made])


def existing(arch: Arch, root: str) -> list[Toolstack]:
    """Return the toolstacks in the cache that fit a dom0 made of ``root``, the newest first.

    ``root`` is the digest of the sysroot; those that another recipe made are left out.
    """
    there = [path for path in cache.shelf(_SHELF).glob("[!.]*") if (path / _INTERFACE).is_file()]
    entries = [cache.trusted(path) for path in there]
    entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    found = []
    for entry in entries:
        facts = json.loads((entry / _FACTS).read_text())
        if (facts["arch"], facts["root"], facts["recipe"]) == (arch, root, _recipe()):
            found.append(_read(entry))
    return found


def _read(entry: Path) -> Toolstack:
    facts = json.loads((entry / _FACTS).read_text())
    return Toolstack(
        arch=Arch(facts["arch"]),
        files=entry / FILES,
        version=facts["version"],
        interfaces=Interfaces(*facts["interfaces"]),
        digest=entry.name,
    )


def _recipe() -> str:
    """Return the digest of how toolstacks are built: another one may give another toolstack."""
    ours = [Path(str(module.__file__)) for module in (eras, libvirt, recipe, trees)]
    return cache.digest_files(ours, base=Path(__file__).parent)


def _check(tree: Path) -> None:
    """BuildError unless ``tree`` has every folder that the recipe knows."""
    for product in (recipe.HEADERS, *recipe.LIBRARIES, *recipe.PROGRAMS):
        if product.needed and recipe.find(tree, product) is None:
            raise BuildError(
                f"no {' or '.join(product.folders)} to build {product.name} in",
                where="tools",
                hint="this tree's tools/ are not laid out as those from 4.12 to 4.23 are",
            )


def _soname(library: Path) -> str:
    """Return the name by which programs look for ``library``; LabError if it has none."""
    with library.open("rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        for tag in dynamic.iter_tags() if dynamic else ():
            if tag.entry.d_tag == "DT_SONAME":
                return str(tag.soname)
    raise LabError("the library has no name (DT_SONAME)", where=str(library))
