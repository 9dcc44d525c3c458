# SPDX-License-Identifier: GPL-2.0-or-later
"""A hypervisor of a few instructions, written by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from harness.agent.build import compiler
from harness.arch import Arch


def assembled(folder: Path, arch: Arch, lines: Iterable[str]) -> Path:
    """Return a xen-syms in ``folder``, assembled from ``lines``, which begin with function f."""
    source, elf = folder / "f.S", folder / "xen-syms"
    source.write_text("\n".join([".text", ".globl f", *lines, ""]))
    words = [compiler(arch), "-g", "-nostdlib", "-static", "-Wl,-ef", str(source), "-o", str(elf)]
    subprocess.run(words, check=True)
    return elf


def function(name: str, *lines: str) -> list[str]:
    """Return the function ``name`` of ``lines``, each of which may be several, parted by ";"."""
    body = [one for line in lines for one in line.split(";")]
    return [f".type {name}, %function", f"{name}:", *body, f".size {name}, .-{name}"]
