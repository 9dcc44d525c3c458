# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles what runs in guests: the agent for Linux, and the bare guest.

A program is compiled once for each compiler and each version of its sources, and kept in the cache.
"""

from __future__ import annotations

from pathlib import Path

from harness import cache
from harness.arch import NAMES, Arch
from harness.command import CommandFailed, run, which
from harness.data import GUESTS
from harness.verdict import BuildError

SOURCES = GUESTS / "agent"
BARE_SOURCES = GUESTS / "bare"
FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-static", "-pthread"),
    *("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion"),
)
_BARE_FLAGS = (
    *("-std=c11", "-O2", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pic"),
    *("-fno-stack-protector", "-fno-tree-loop-distribute-patterns", "-mgeneral-regs-only"),
    *("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion"),
    *("-Wno-main", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"),
)
_BARE_ARCH_FLAGS = {
    # Not where an HVM guest's firmware is: hvmloader lies at 1 MiB, and tests memory at 4 to 8.
    Arch.X86_64: ("-mno-red-zone", "-fcf-protection=none", "-Wl,--defsym=start=0x1000000"),
    Arch.ARM64: ("-mno-outline-atomics", "-Wl,--defsym=start=0x40080000"),
}
_PACKAGES = {Arch.X86_64: "gcc libc6-dev", Arch.ARM64: "gcc-aarch64-linux-gnu"}
_TIMEOUT = 120.0


def compiler(arch: Arch) -> str:
    """Return the path of the C compiler for ``arch``.

    Raises LabError when it is not there, with the package to install.
    """
    return which(f"{NAMES[arch].triplet}-gcc", _PACKAGES[arch])


def agent_binary(arch: Arch, sources: Path = SOURCES) -> Path:
    """Return the path of the static agent for ``arch``; compile it if it is not in the cache.

    Raises BuildError with the compiler's first error, LabError when there is no compiler.
    """
    gcc = compiler(arch)
    files = sorted(sources.glob("*.[ch]"))
    if not files:
        raise BuildError("the agent's sources are not there", where=str(sources))
    version = run([gcc, "--version"]).partition("\n")[0]
    name = cache.key(cache.digest_files(files, base=sources), version, FLAGS)
    units = [path for path in files if path.suffix == ".c"]

    def compile_into(folder: Path) -> None:
        try:
            run([gcc, *FLAGS, "-o", folder / "agent", *units], timeout=_TIMEOUT)
        except CommandFailed as error:
            raise BuildError(
                f"the guest agent does not compile for {arch}: {first_error(error.output)}",
                where=str(sources),
            ) from error

    return cache.entry("agent", name, compile_into) / "agent"


def bare_guest(arch: Arch) -> Path:
    """Return the path of the bare guest for ``arch``; compile it if it is not in the cache.

    It is what the toolstack boots as a kernel: an ELF file for x86-64, an Image for arm64.
    Raises as ``agent_binary`` does.
    """
    gcc = compiler(arch)
    shared = [SOURCES / name for name in ("record.h", "shared.h", "steps.h", "xen_abi.h")]
    units = [
        *sorted(BARE_SOURCES.glob(f"*-{arch}.[cS]")),
        *(path for path in sorted(BARE_SOURCES.glob("*.c")) if "-" not in path.name),
    ]
    script = BARE_SOURCES / "bare.lds"
    files = [*sorted(BARE_SOURCES.iterdir()), *shared]
    version = run([gcc, "--version"]).partition("\n")[0]
    flags = (*_BARE_FLAGS, *_BARE_ARCH_FLAGS[arch])
    name = cache.key(cache.digest_files(files, base=GUESTS), version, flags)

    def compile_into(folder: Path) -> None:
        try:
            elf = folder / "bare"
            run([gcc, *flags, f"-Wl,-T,{script}", "-o", elf, *units], timeout=_TIMEOUT)
            if arch is Arch.ARM64:  # nobody clears the memory behind an Image: put .bss into it
                keep = "--set-section-flags=.bss=alloc,load,contents"
                run([gcc.removesuffix("gcc") + "objcopy", keep, "-O", "binary", elf])
        except CommandFailed as error:
            raise BuildError(
                f"the bare guest does not compile for {arch}: {first_error(error.output)}",
                where=str(BARE_SOURCES),
            ) from error

    return cache.entry("bare", name, compile_into) / "bare"


def first_error(output: str) -> str:
    """Return the first line of a compiler's or linker's ``output`` that is an error."""
    lines = output.strip().splitlines()
    errors = (line for line in lines if "error:" in line or "undefined reference" in line)
    return next(errors, lines[-1] if lines else "the compiler said nothing").strip()
