"""Build a hypervisor: source and flavour in, bootable image and symbols out, cached.

An entry of the cache holds the image, ``xen-syms`` (DWARF), the configuration and the
build's log.  Its key is what went in: source, patches, configuration, compiler.  The
build is reproducible: the same key gives the same build id on any machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import cache, command
from harness.arch import Arch
from harness.hypervisor import binary
from harness.hypervisor import flavour as flavours
from harness.hypervisor import source as sources
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.recipe import Recipe, recipe
from harness.hypervisor.source import Source
from harness.hypervisor.symbols import build_id
from harness.verdict import BuildError, LabError

# Called with the number of objects compiled so far, about twice a second.
Progress = Callable[[int], None]

_SHELF = "xen"
_STARVED = 64 << 20  # bytes; a build takes about 200 MiB
_IMAGE, _SYMS, _CONFIG, _LOG = "xen", "xen-syms", "config", "build.log"


@dataclass(frozen=True)
class Build:
    """A hypervisor, ready to boot.  The files are in the cache: read, never write."""

    arch: Arch
    flavour: str
    design: str  # the flavour whose rules it should keep
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

    @property
    def has_symbols(self) -> bool:
        """Whether it was built here: the distribution's own builds are stripped."""
        return self.source.kind != "deb"


def build(
    source: Source,
    flavour: str | Flavour,
    arch: Arch,
    *,
    debug: bool = True,
    progress: Progress | None = None,
) -> Build:
    """Return ``source`` with ``flavour``'s patches, built for ``arch``.

    ``debug`` is Xen's CONFIG_DEBUG: assertions (the write side checks that a channel
    starts or ends FREE or UNBOUND), lock checking, frame pointers.  Raises ConfigError
    (no such flavour, a patch that does not fit), BuildError with the first error of the
    compiler, LabError (no compiler, no space).
    """
    began = time.monotonic()
    chosen = flavours.find(flavour, source) if isinstance(flavour, str) else flavour
    if source.kind == "deb":
        return _ready_made(source, chosen, arch)
    how = recipe(arch, source.release, debug=debug)
    compiler = _compiler(how)
    digest = cache.key(source.digest, chosen.digest, chosen.name, arch, how.as_data(), compiler)
    made = False

    def make(folder: Path) -> None:
        nonlocal made
        made = True
        _make(folder, source, chosen, how, digest, progress)

    directory = cache.entry(_SHELF, digest, make)
    return Build(
        arch=arch,
        flavour=chosen.name,
        design=chosen.design,
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
    )


def _ready_made(source: Source, chosen: Flavour, arch: Arch) -> Build:
    """The distribution's own build: there is nothing to do."""
    image = binary.image(source.tree, arch)
    return Build(
        arch=arch,
        flavour=chosen.name,
        design=chosen.design,
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


def _compiler(how: Recipe) -> str:
    """Return what the compiler and the linker call themselves; LabError names the package."""
    first = []
    for tool, package in (("gcc", how.compiler_package), ("ld", how.binutils_package)):
        path = command.which(how.cross + tool, package)
        first.append(command.run([path, "--version"]).splitlines()[0])
    return ", ".join(first)


def _make(
    folder: Path,
    source: Source,
    chosen: Flavour,
    how: Recipe,
    digest: str,
    progress: Progress | None,
) -> None:
    """Fill the cache entry ``folder``."""
    tree = folder / "tree"
    _copy(source, tree)
    flavours.apply(chosen, tree)
    logs = cache.root() / f"{_SHELF}-logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{digest}.log"
    log.unlink(missing_ok=True)
    xen = tree / "xen"
    with _counted(xen, progress):
        _run(how.make(tree, ["distclean"]), tree, log)
        (tree / ".scmversion").write_text(f"{source.digest}\n")  # Xen shows it as changeset
        (xen / ".config").write_text(how.config)
        _run(how.make(tree, ["olddefconfig"]), tree, log)
        jobs = f"-j{os.cpu_count() or 1}"
        _run(how.make(tree, [jobs], vendor=f"-{chosen.name}"), tree, log)
    shutil.move(xen / "xen", folder / _IMAGE)
    shutil.move(xen / "xen-syms", folder / _SYMS)
    shutil.move(xen / ".config", folder / _CONFIG)
    shutil.move(log, folder / _LOG)
    shutil.rmtree(tree)
    facts = {
        "source": {"kind": source.kind, "version": source.version, "digest": source.digest},
        "flavour": chosen.name,
        "patches": [patch.name for patch in chosen.patches],
        "arch": how.arch,
        "build_id": build_id(folder / _SYMS),
    }
    (folder / "build.json").write_text(json.dumps(facts, indent=2) + "\n")


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


def _run(words: list[str], tree: Path, log: Path) -> None:
    """Run one step of the build, adding its output to ``log``."""
    step = log.with_suffix(".step")
    try:
        command.run(words, log=step)
    except command.CommandFailed as error:
        raise _explain(error, tree, log) from None
    finally:
        with log.open("ab") as whole, step.open("rb") as part:
            shutil.copyfileobj(part, whole)
        step.unlink()


def _explain(error: command.CommandFailed, tree: Path, log: Path) -> LabError:
    """Return what failed, for a person: the first error, where it is, where the log is."""
    where, what = first_error(error.output, tree)
    # A log on a full disk ends early, so the words may be missing from it.
    starved = shutil.disk_usage(tree).free < _STARVED and (not where or where.startswith("make"))
    if starved or "No space left on device" in error.output:
        return LabError(
            "no space left on device during the build",
            where=str(cache.root()),
            hint=f"free space there, or point {cache.ENVIRONMENT} at another directory",
        )
    return BuildError(what or error.what, where=where, hint=f"see {log}")


# GNU tools: "file:line:column: error: text", "file:line: Error: text", "ld: file:...: text".
_ERROR = re.compile(
    r"^(?P<file>[^\s:]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<what>.*)", re.I
)
_LINK = re.compile(r"^\S*ld: (?:(?P<file>\S+):\s*)?(?:in function .*|(?P<what>.*))$")
_UNDEFINED = re.compile(
    r"^(?:\S*ld: )?(?P<file>[^\s:]+):(?:(?P<line>\d+):|\([^)]*\):)? "
    r"(?P<what>undefined reference to .*)"
)
_KCONFIG = re.compile(r"^(?P<file>\S*Kconfig\S*):(?P<line>\d+): (?P<what>.*)")
_MAKE = re.compile(r"^(?P<file>make(?:\[\d+\])?): \*\*\* (?P<what>.*)")
_ENTER = re.compile(r"^make\[\d+\]: Entering directory '(?P<folder>.*)'")


def first_error(output: str, tree: Path) -> tuple[str, str]:
    """Return ("file:line" relative to ``tree``, message) of the first error in a build's output.

    A compiler's or assembler's error comes before a linker's, that before make's own.
    Both are empty when there is none.
    """
    lines = output.splitlines()
    for pattern in (_ERROR, _UNDEFINED, _KCONFIG, _LINK, _MAKE):
        folder = tree / "xen"
        for line in lines:
            if entered := _ENTER.match(line):
                folder = Path(entered["folder"])
            found = pattern.match(line)
            if found is None or found["what"] is None:
                continue
            number = found.groupdict().get("line")
            return _place(found["file"], number, folder, tree), found["what"].strip()
    return "", ""


def _place(file: str | None, line: str | None, folder: Path, tree: Path) -> str:
    if file is None:
        return ""
    # Older trees enter each directory, newer ones stay in xen/; DWARF is relative to the top.
    for path in (folder / file, tree / "xen" / file, tree / file):
        if path.exists() and path.is_relative_to(tree):
            file = str(path.relative_to(tree))
            break
    return f"{file}:{line}" if line else file


@contextlib.contextmanager
def _counted(tree: Path, progress: Progress | None) -> Iterator[None]:
    """Call ``progress`` with the number of objects in ``tree``, while in the block.

    They are counted as files: what make says of them depends on its version and on the tree's.
    """
    if progress is None:
        yield
        return
    done = threading.Event()

    def count() -> None:
        while not done.wait(0.5):
            names = (name for _, _, files in os.walk(tree) for name in files)
            progress(sum(name.endswith(".o") for name in names))

    counter = threading.Thread(target=count, name="build progress", daemon=True)
    counter.start()
    try:
        yield
    finally:
        done.set()
        counter.join()
