# SPDX-License-Identifier: GPL-2.0-or-later
"""How a tree of a given release is built for a given architecture: data, and make's words."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import cache, command
from harness.arch import NAMES, Arch
from harness.verdict import ConfigError

# Raise when a change below alters what comes out of a build.
_VERSION = 3


@dataclass(frozen=True)
class Era:
    """What trees up to and including ``last`` need with today's tools, on ``archs``."""

    last: tuple[int, int] | None  # None: every tree until now
    cflags: tuple[str, ...]
    why: str
    archs: tuple[Arch, ...] = tuple(Arch)
    compilers: tuple[str, ...] = ("gcc", "clang")

    def needed(self, release: tuple[int, int], arch: Arch, how: How) -> bool:
        """Say whether a tree of ``release`` needs it, built so for ``arch``."""
        old = self.last is None or release <= self.last
        return old and arch in self.archs and how.kind in self.compilers


ERAS = (
    Era((4, 17), ("-Wno-error",), "warnings of gcc 12 to 16 that the trees make errors"),
    Era(
        (4, 14),
        ("-mno-outline-atomics",),
        "gcc 10 and later call __aarch64_ldadd4_sync, which Xen has not, until its 5d45ecabe3",
        (Arch.ARM64,),
    ),
    Era(
        (4, 21),
        ("-DTEECR32_EL1=S2_2_C0_C0_0", "-DTEEHBR32_EL1=S2_2_C1_C0_0"),
        "today's binutils do not know ThumbEE's registers by name; Xen saved them until 5bbe1fe413",
        (Arch.ARM64,),
    ),
    Era(
        None,
        ("-no-integrated-as",),
        "clang's assembler takes smc only where the CPU is said to have EL3; GNU's takes it always",
        (Arch.ARM64,),
        ("clang",),
    ),
)

_SHADOW_OPTIONAL = (4, 22)  # from bd630bbdd4 on Xen for x86 is without shadow paging unless asked
_VM_EVENT_OPTIONAL = (4, 21)  # from then on Xen for Arm is without vm_event unless asked

# Not the builder's name and clock: the same input must give the same build id.
_IDENTITY = {
    "XEN_BUILD_DATE": "Thu Jan 1 00:00:00 UTC 1970",
    "XEN_BUILD_TIME": "00:00:00",
    "XEN_BUILD_HOST": "localhost",
    "XEN_DOMAIN": "localdomain",
    "XEN_WHOAMI": "evtchn-harness",
}


@dataclass(frozen=True)
class How:
    """What a person may choose of a build."""

    compiler: str = "gcc"  # gcc or clang, with a version if need be: gcc-13, clang-16
    debug: bool = True  # Xen's CONFIG_DEBUG: assertions, lock checking, less optimisation

    def __post_init__(self) -> None:
        if not _COMPILER.fullmatch(self.compiler):
            raise ConfigError(
                f"{self.compiler!r} is no compiler that can build Xen",
                where="--compiler",
                hint="name gcc or clang, with a version if you like: gcc-13, clang-16",
            )

    @property
    def clang(self) -> bool:
        """Whether the compiler is clang."""
        return self.kind == "clang"

    @property
    def kind(self) -> str:
        """The compiler's name without its version."""
        return self.compiler.partition("-")[0]


_COMPILER = re.compile(r"(gcc|clang)(-\d+)?")


@dataclass(frozen=True)
class Recipe:
    """One way to build: configuration, flags, tools."""

    arch: Arch
    cross: str  # prefix of the tools, empty for the machine's own
    config: str  # Kconfig answers; the rest is the tree's default
    cflags: tuple[str, ...]
    how: How

    @property
    def compiler(self) -> str:
        """Name of the compiler's program."""
        return self.how.compiler if self.how.clang else f"{self.cross}{self.how.compiler}"

    @property
    def compiler_package(self) -> str:
        """Debian package of the compiler."""
        if self.how.clang or not self.cross:
            return self.how.compiler
        return f"{self.how.compiler}-{NAMES[self.arch].triplet.replace('_', '-')}"

    @property
    def binutils_package(self) -> str:
        """Debian package of the linker."""
        return (
            f"binutils-{NAMES[self.arch].triplet.replace('_', '-')}" if self.cross else "binutils"
        )

    def as_data(self) -> list[Any]:
        """Return what goes into a build's digest."""
        return [_VERSION, self.config, list(self.cflags), _IDENTITY]

    def make(self, tree: Path, targets: list[str], *, vendor: str = "") -> list[str]:
        """Return the command that makes ``targets`` of the hypervisor in ``tree``.

        The environment is clean: neither flags of the user nor of a make that called us
        reach the build.  ccache sees paths relative to ``tree``, DWARF sees ".".
        """
        ccache = command.which("ccache", "ccache")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            "LC_ALL": "C",
            "CCACHE_DIR": cache.shelf("ccache"),
            "CCACHE_BASEDIR": tree,
            "CCACHE_NOHASHDIR": "1",
        }
        target = f" --target={NAMES[self.arch].triplet}" if self.how.clang else ""
        variables = {
            "XEN_TARGET_ARCH": NAMES[self.arch].xen,
            "CROSS_COMPILE": self.cross,
            "clang": "y" if self.how.clang else "n",
            "CC": f"{ccache} {self.compiler}{target}",
            "EXTRA_CFLAGS_XEN_CORE": " ".join(
                (*self.cflags, f"-ffile-prefix-map={tree}=.", f"-fdebug-prefix-map={tree}=.")
            ),
            "XEN_VENDORVERSION": vendor,
            "XEN_BUILD_PE": "n",  # xen.efi: three more links of x86; GRUB takes the ELF file
            **_IDENTITY,
        }
        return [
            "env",
            "-i",
            *(f"{name}={value}" for name, value in environment.items()),
            command.which("make", "make"),
            "-C",
            str(tree / "xen"),
            *(f"{name}={value}" for name, value in variables.items()),
            *targets,
        ]


def recipe(
    arch: Arch,
    release: tuple[int, int],
    how: How,
    era: tuple[int, int] | None = None,
    *,
    shim: str = "",
) -> Recipe:
    """Return the way to build Xen ``release`` for ``arch``; ``era`` as of ``Source.era``.

    ``shim``: the tree's Kconfig answers for xen-shim, if that is what is to be built.
    """
    native = platform.machine() == NAMES[arch].qemu
    of = era or release
    return Recipe(
        arch=arch,
        cross="" if native else f"{NAMES[arch].triplet}-",
        config=_shim_config(shim, how) if shim else _config(arch, release, debug=how.debug),
        cflags=tuple(flag for one in ERAS if one.needed(of, arch, how) for flag in one.cflags),
        how=how,
    )


def _config(arch: Arch, release: tuple[int, int], *, debug: bool) -> str:
    """Return the answers that must not be left to a tree's default."""
    answers = {
        "CONFIG_DEBUG": debug,
        "CONFIG_EXPERT": not debug,  # else CONFIG_DEBUG_INFO cannot be asked for
        "CONFIG_DEBUG_INFO": True,
        "CONFIG_FRAME_POINTER": True,  # a hung CPU's stack can be walked
        "CONFIG_SCRUB_DEBUG": False,  # reads every free page again: slow, and not our subject
    }
    if release >= _VM_EVENT_OPTIONAL:
        answers["CONFIG_VM_EVENT"] = True  # so that Xen itself can be the owner of a channel
    if arch is Arch.X86_64 and release >= _SHADOW_OPTIONAL:
        answers["CONFIG_SHADOW_PAGING"] = True  # PVH and HVM on a CPU without nested paging: TCG's
    return _answered(answers)


def _shim_config(theirs: str, how: How) -> str:
    """Return the tree's answers for xen-shim with ours, which come last and so count."""
    ours = {"CONFIG_DEBUG": how.debug, "CONFIG_DEBUG_INFO": True, "CONFIG_FRAME_POINTER": True}
    return f"{theirs.rstrip()}\n{_answered(ours)}"


def _answered(answers: Mapping[str, bool]) -> str:
    return "".join(
        f"{name}=y\n" if yes else f"# {name} is not set\n" for name, yes in answers.items()
    )
