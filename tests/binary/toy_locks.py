# SPDX-License-Identifier: GPL-2.0-or-later
"""A toy of Xen's lock functions, compiled; and its machine code changed by hand."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from elftools.elf.elffile import ELFFile

from harness.agent.build import compiler
from harness.arch import Arch
from tests import scratch

FOLDER = Path(__file__).parent / "toy"
LOCKS = ("counter", "rwlock", "spinlock")
_FLAGS = "-g -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector -fwrapv"
# Xen's lock functions are in files of their own: a call keeps no register that it might change.
_FLAGS += " -fno-ipa-ra"
_OWN = {Arch.X86_64: ("-fcf-protection=none",), Arch.ARM64: ("-mno-outline-atomics",)}


@functools.cache
def toy(arch: Arch, lock: str, *flags: str) -> Path:
    """Return the toy's xen-syms, with ``lock`` ("counter") compiled with ``flags``.

    -DPUBLISHES: also what publishes channels, the event array and the control block by a flag.
    """
    elf = scratch.folder("toy-locks-") / "xen-syms"
    level = () if any(flag.startswith("-O") for flag in flags) else ("-O2",)
    words = [compiler(arch), *_FLAGS.split(), *_OWN[arch], *level, *flags, f"-D{lock.upper()}"]
    sources = ["common/event_channel.c"]
    if "-DPUBLISHES" in flags:
        sources.append("common/event_fifo.c")
    subprocess.run([*words, *sources, "-o", str(elf)], cwd=FOLDER, check=True)
    return elf


def patched(elf: Path, address: int, code: bytes, folder: Path) -> Path:
    """Return a copy of ``elf`` in ``folder`` that has ``code`` at ``address``."""
    made = Path(shutil.copy(elf, folder / "xen-syms"))
    with elf.open("rb") as source:
        (place,) = ELFFile(source).address_offsets(address, len(code))
    with made.open("r+b") as file:
        file.seek(place)
        file.write(code)
    return made
