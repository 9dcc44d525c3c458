"""Build the toolstack of a Xen tree for dom0: source in, files for dom0 out, cached.

An entry of the cache holds what dom0 needs, as it is placed below its /run/harness/toolstack:
bin/, lib/ and libvirt/.  Its key is what goes in, of the tree the toolstack's own sources and
Xen's public headers: neighbours in a bisection share it.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from harness import apt, cache, command
from harness.arch import Arch
from harness.hypervisor.make import Progress, counted, step
from harness.hypervisor.source import Source
from harness.toolstack import eras, libvirt, recipe
from harness.toolstack import tree as trees
from harness.toolstack.recipe import Compiler
from harness.toolstack.sysroot import Sysroot, programs, sysroot
from harness.verdict import BuildError, LabError

_SHELF = "toolstack"
_LOG = "build.log"
FILES = "files"
# A change of these may be another toolstack.
_OURS = [Path(str(module.__file__)) for module in (eras, libvirt, recipe, trees)]


@dataclass(frozen=True)
class Toolstack:
    """A toolstack for dom0.  The files are in the cache: read, never write."""

    arch: Arch
    files: Path  # bin/, lib/, libvirt/
    version: str  # of the tree that it was first built from
    digest: str  # of everything that went in
    seconds: float  # wall time of this call
    cached: bool


def build(
    source: Source,
    arch: Arch,
    *,
    codename: str = "",
    progress: Progress | None = None,
    notice: apt.Notice = lambda _: None,
) -> Toolstack:
    """Return the toolstack of ``source`` for a dom0 of release ``codename`` on ``arch``.

    BuildError with the first error of the tree's tools and the log's path; LabError when a
    package cannot be had.
    """
    began = time.monotonic()
    root = sysroot(arch, codename=codename, notice=notice)
    driver = apt.source_package("libvirt", root.libvirt, codename=codename, notice=notice)
    compiler = Compiler(arch, root.tree, programs(notice=notice))
    digest = cache.key(
        trees.digest(source),
        arch,
        root.digest,
        driver.version,
        compiler.version(),
        cache.digest_files(_OURS, base=Path(__file__).parent),
    )
    made = False

    def make(folder: Path) -> None:
        nonlocal made
        made = True
        _Build(source, driver.tree, root, compiler, folder, digest).run(progress)

    directory = cache.entry(_SHELF, digest, make)
    return Toolstack(
        arch=arch,
        files=directory / FILES,
        version=json.loads((directory / "toolstack.json").read_text())["version"],
        digest=digest,
        seconds=round(time.monotonic() - began, 3),
        cached=not made,
    )


@dataclass(frozen=True)
class _Build:
    """One build, in the cache entry ``folder``."""

    source: Source
    libvirt: Path
    root: Sysroot
    compiler: Compiler
    folder: Path
    digest: str

    def run(self, progress: Progress | None) -> None:
        """Fill the cache entry."""
        tree = self.folder / "tree"
        trees.copy(self.source, tree)
        eras.apply(tree)
        trees.configure(tree, recipe.answers(self.compiler))
        _check(tree)
        logs = cache.root() / f"{_SHELF}-logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{self.digest}.log"
        log.unlink(missing_ok=True)
        with counted(tree, progress):
            for folder, words in recipe.steps(tree, self.compiler):
                step(words, folder, tree, log)
            driver = self._driver(tree, log)
        self._collect(tree, driver)
        shutil.move(log, self.folder / _LOG)
        shutil.rmtree(tree)
        facts = {"version": self.source.version, "libvirt": self.root.libvirt}
        (self.folder / "toolstack.json").write_text(json.dumps(facts, indent=2) + "\n")

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

    def _collect(self, tree: Path, driver: Path) -> None:
        """Copy what dom0 needs, without symbols, under the names that it is looked for by."""
        files = self.folder / FILES
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
