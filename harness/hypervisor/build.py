# SPDX-License-Identifier: GPL-2.0-or-later
"""Build a hypervisor: source and flavour in, bootable image and symbols out, cached.

An entry of the cache holds the image, ``xen-syms`` (DWARF), the configuration and the
build's log.  Its key is what went in: source, patches, configuration, compiler.  The
build is reproducible: the same key gives the same build id on any machine.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from harness import cache, command
from harness.arch import Arch
from harness.hypervisor import binary
from harness.hypervisor import flavour as flavours
from harness.hypervisor import source as sources
from harness.hypervisor.flavour import Flavour, Model
from harness.hypervisor.make import Progress, counted, step
from harness.hypervisor.recipe import How, Recipe, recipe
from harness.hypervisor.source import Source
from harness.hypervisor.symbols import build_id
from harness.verdict import LabError

_SHELF = "xen"
_AS_USUAL = How()
SHIM_CONFIG = Path("xen/arch/x86/configs/pvshim_defconfig")  # in a tree that has xen-shim
_IMAGE, _SYMS, _CONFIG, _LOG = "xen", "xen-syms", "config", "build.log"


@dataclass(frozen=True)
class Build:
    """A hypervisor, ready to boot.  The files are in the cache: read, never write."""

    arch: Arch
    flavour: str
    model: Model  # the lock whose rules it should keep
    source: Source
    directory: Path
    image: Path  # x86-64: uncompressed multiboot ELF (`qemu -kernel`); arm64: flat Image
    syms: Path  # ELF with symbols and DWARF, if ``has_symbols``
    config: Path | None  # the Kconfig answers it was built with
    build_id: str  # hex, as the running Xen reports it
    digest: str  # of everything that went in
    compiler: str
    seconds: float  # wall time of this call
    cached: bool
    origin: str = ""  # where the flavour's patches are from, below images/xen/; "" without any

    @property
    def design(self) -> str:
        """The name of the model: the flavour whose rules it should keep."""
        return self.model.name

    @property
    def has_symbols(self) -> bool:
        """Whether it was built here: the distribution's own builds are stripped."""
        return self.source.kind != "deb"


def build(
    source: Source,
    flavour: str | Flavour,
    arch: Arch,
    how: How = _AS_USUAL,
    *,
    shim: bool = False,
    progress: Progress | None = None,
) -> Build:
    """Return ``source`` with ``flavour``'s patches, built for ``arch``.

    ``shim``: as xen-shim, by the answers that the tree has for it.

    A debug build (``how``) has assertions: the write side checks that a channel starts or ends
    FREE or UNBOUND.  Raises ConfigError
    (no such flavour, a patch that does not fit), BuildError with the first error of the
    compiler, LabError (no compiler, no space).
    """
    began = time.monotonic()
    chosen = flavours.find(flavour, source) if isinstance(flavour, str) else flavour
    if source.kind == "deb":
        return _ready_made(source, chosen, arch)
    answers = (source.tree / SHIM_CONFIG).read_text() if shim else ""
    way = recipe(arch, source.release, how, source.era, shim=answers)
    compiler = _compiler(way)
    digest = cache.key(source.digest, chosen.digest, chosen.name, arch, way.as_data(), compiler)
    made = False

    def make(folder: Path) -> None:
        nonlocal made
        made = True
        _make(folder, source, chosen, way, digest, progress)

    directory = cache.entry(_SHELF, digest, make)
    return Build(
        arch=arch,
        flavour=chosen.name,
        model=chosen.model,
        source=source,
        directory=directory,
        image=directory / _IMAGE,
        syms=directory / _SYMS,
        config=directory / _CONFIG,
        build_id=json.loads((directory / "build.json").read_text())["build_id"],
        digest=digest,
        compiler=compiler,
        seconds=round(time.monotonic() - began, 3),
        cached=not made,
        origin=chosen.origin,
    )


def _ready_made(source: Source, chosen: Flavour, arch: Arch) -> Build:
    """The distribution's own build: there is nothing to do."""
    image = binary.image(source.tree, arch)
    return Build(
        arch=arch,
        flavour=chosen.name,
        model=chosen.model,
        source=source,
        directory=image.parent,
        image=image,
        syms=image,
        config=None,
        build_id=binary.image_build_id(image),
        digest=source.digest,
        compiler="the distribution's",
        seconds=0.0,
        cached=True,
    )


def _compiler(way: Recipe) -> str:
    """Return what the compiler and the linker call themselves; LabError names the package."""
    first = []
    linker = way.cross + "ld", way.binutils_package
    for tool, package in ((way.compiler, way.compiler_package), linker):
        path = command.which(tool, package)
        first.append(command.run([path, "--version"]).splitlines()[0])
    return ", ".join(first)


def _make(
    folder: Path,
    source: Source,
    chosen: Flavour,
    way: Recipe,
    digest: str,
    progress: Progress | None,
) -> None:
    """Fill the cache entry ``folder``."""
    tree = folder / "tree"
    log = cache.shelf(f"{_SHELF}-logs") / f"{digest}.log"
    log.unlink(missing_ok=True)
    xen = tree / "xen"
    with counted(xen, progress):
        lay(source, chosen, way, tree, log)
        jobs = f"-j{os.cpu_count() or 1}"
        step(way.make(tree, [jobs], vendor=f"-{chosen.name}"), xen, tree, log)
    shutil.move(xen / "xen", folder / _IMAGE)
    shutil.move(xen / "xen-syms", folder / _SYMS)
    shutil.move(xen / ".config", folder / _CONFIG)
    shutil.move(log, folder / _LOG)
    shutil.rmtree(tree)
    facts = {
        "source": {"kind": source.kind, "version": source.version, "digest": source.digest},
        "flavour": chosen.name,
        "patches": [patch.name for patch in chosen.patches],
        "arch": way.arch,
        "build_id": build_id(folder / _SYMS),
    }
    (folder / "build.json").write_text(json.dumps(facts, indent=2) + "\n")


def lay(source: Source, flavour: Flavour, way: Recipe, tree: Path, log: Path) -> None:
    """Lay ``source`` with the patches of ``flavour`` into ``tree``, configured and ready to make.

    Errors as of ``build``; what make says is added to ``log``.
    """
    _copy(source, tree)
    flavours.apply(flavour, tree)
    xen = tree / "xen"
    step(way.make(tree, ["distclean"]), xen, tree, log)
    (tree / ".scmversion").write_text(f"{source.digest}\n")  # Xen shows it as changeset
    (xen / ".config").write_text(way.config)
    step(way.make(tree, ["olddefconfig"]), xen, tree, log)


def _copy(source: Source, tree: Path) -> None:
    """Copy what a build reads of ``source`` to ``tree``; LabError if it is not what it was."""
    for path in sources.files(source.tree):
        target = tree / path.relative_to(source.tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(target.stat().st_mode | 0o200)  # the cache's trees are read-only
    copied = (path for path in tree.rglob("*") if path.is_symlink() or path.is_file())
    if cache.digest_files(copied, base=tree) != source.digest:
        raise LabError(
            "the tree changed while it was being copied",
            where=str(source.tree),
            hint="build again",
        )
