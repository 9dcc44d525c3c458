"""The guest agent's binary: compiled once per compiler and source, kept in the cache."""

from __future__ import annotations

from pathlib import Path

from harness import cache
from harness.arch import NAMES, Arch
from harness.command import CommandFailed, run, which
from harness.verdict import BuildError

SOURCES = Path(__file__).resolve().parents[2] / "guests" / "agent"
FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-static", "-pthread"),
    *("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion"),
)
_PACKAGES = {Arch.X86_64: "gcc libc6-dev", Arch.ARM64: "gcc-aarch64-linux-gnu"}
_TIMEOUT = 120.0


def compiler(arch: Arch) -> str:
    """Return the path of the C compiler for ``arch``; LabError names the package that has it."""
    return which(f"{NAMES[arch].triplet}-gcc", _PACKAGES[arch])


def agent_binary(arch: Arch, sources: Path = SOURCES) -> Path:
    """Return the static agent for ``arch``, compiling it if its sources have not been yet.

    BuildError carries the compiler's first error; LabError says which compiler is missing.
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
                f"the guest agent does not compile for {arch}: {_first_error(error.output)}",
                where=str(sources),
            ) from error

    return cache.entry("agent", name, compile_into) / "agent"


def _first_error(output: str) -> str:
    lines = output.strip().splitlines()
    errors = (line for line in lines if "error:" in line or "undefined reference" in line)
    return next(errors, lines[-1] if lines else "the compiler said nothing").strip()
