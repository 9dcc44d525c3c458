# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles the bare guest together with QEMU's emulation of Xen: one program of this computer.

Of QEMU there is one file, xen_evtchn.c, as it is; the functions of another one that take a
hypercall's argument from the guest; and Xen's public headers, as QEMU has them.  Everything else
that they use is ``guests/emulation``.  Nothing of QEMU is kept with the harness.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import cache
from harness.agent.build import BARE_SOURCES, SOURCES, compiler, first_error
from harness.arch import NAMES, Arch
from harness.command import CommandFailed, run
from harness.data import GUESTS
from harness.hypervisor.qemu import EVENT_CHANNELS, QemuSource
from harness.verdict import BuildError, LabError

EMULATION = GUESTS / "emulation"

_HYPERCALLS = Path("target/i386/kvm/xen-emu.c")
_FUNCTIONS = (
    "kvm_xen_get_vcpu_info_hva",
    "kvm_xen_set_vcpu_virq",
    "kvm_xen_hcall_evtchn_op",
    "kvm_xen_hcall_sched_op",
)
_HEADERS = ("xen_evtchn.h", "xen_overlay.h", "xen_xenstore.h")  # beside xen_evtchn.c
_INTERFACE = Path("hw/xen/interface")  # Xen's public headers, below QEMU's include/
_COPY = "include"  # the folder in which QEMU's files are compiled
_GUEST = ("events.c", "look.c", "main.c", "ops.c", "programme.c", "protocol.c")  # of the bare guest

_FLAGS = ("-std=gnu11", "-O2", "-g", "-pthread")
_OURS = ("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion")
_GUEST_FLAGS = ("-ffreestanding", "-Wno-main")
_THEIRS = ("-w",)  # what it does with our stubs is no fault of QEMU's file


def emulated_guest(source: QemuSource) -> Path:
    """Return the path of the bare guest on the emulation of ``source``; compile it if it is not in
    the cache.

    BuildError with the compiler's first error, or with what is not in QEMU's source; LabError when
    there is no compiler, or this computer is none of x86-64.
    """
    if platform.machine() != NAMES[Arch.X86_64].qemu:
        raise LabError(
            f"QEMU's emulation is code for x86-64, and this computer is {platform.machine()}",
            hint="run it on an x86-64 computer",
        )
    gcc = compiler(Arch.X86_64)
    ours = [
        *sorted(EMULATION.iterdir()),
        *sorted(BARE_SOURCES.glob("*.[ch]")),
        *(SOURCES / name for name in ("record.h", "shared.h", "steps.h", "xen_abi.h")),
    ]
    theirs = _files(source)
    version = run([gcc, "--version"]).partition("\n")[0]
    flags = (_FLAGS, _OURS, _GUEST_FLAGS, _FUNCTIONS)
    name = cache.key(
        cache.digest_files(ours, base=GUESTS),
        cache.digest_files(theirs, base=source.tree),
        version,
        flags,
    )

    def compile_into(folder: Path) -> None:
        try:
            _compile(gcc, source, folder)
        except CommandFailed as error:
            said = first_error(error.output).replace(f"{folder / _COPY}/", "")
            raise BuildError(
                f"QEMU's emulation does not compile: {said}",
                where=f"QEMU {source.version}",
                hint="guests/emulation/qemu.h has what it is compiled with",
            ) from error

    return cache.entry("emulated", name, compile_into) / "emulated"


def _files(source: QemuSource) -> list[Path]:
    """Return every file of QEMU's that is compiled; BuildError if one is not there."""
    beside = source.tree / EVENT_CHANNELS.parent
    found = [source.tree / EVENT_CHANNELS, source.tree / _HYPERCALLS]
    found += [beside / name for name in _HEADERS]
    for file in found:
        if not file.is_file():
            raise BuildError("not there", where=str(file))
    interface = source.tree / "include" / _INTERFACE
    return [*found, *(path for path in sorted(interface.rglob("*.h")) if path.is_file())]


def _compile(gcc: str, source: QemuSource, folder: Path) -> None:
    headers = folder / _COPY
    _lay_out(source, headers)
    theirs = folder / "qemu.o"
    paths = ("-I", headers, "-I", EMULATION)
    run([gcc, *_FLAGS, *_THEIRS, *paths, "-c", "-o", theirs, headers / EVENT_CHANNELS.name])
    compile_guest(gcc, folder, [EMULATION / "qemu.c", theirs], headers)
    theirs.unlink()
    shutil.rmtree(headers)


def compile_guest(
    gcc: str, folder: Path, emulation: Sequence[Path], headers: Path | None = None
) -> Path:
    """Compile the bare guest with the C sources and objects of an ``emulation``
    (guests/emulation/emulation.h); return the program, in ``folder``.  CommandFailed if it does
    not compile.
    """
    objects = [folder / f"{Path(name).stem}.o" for name in _GUEST]
    for name, compiled in zip(_GUEST, objects, strict=True):
        flags = (*_FLAGS, *_OURS, *_GUEST_FLAGS)
        run([gcc, *flags, "-c", "-o", compiled, BARE_SOURCES / name])
    paths = [word for path in (headers, EMULATION) if path for word in ("-I", path)]
    program = folder / "emulated"
    units = [*objects, EMULATION / "guest.c", *emulation]
    run([gcc, *_FLAGS, *_OURS, *paths, "-o", program, *units])
    for each in objects:
        each.unlink()
    return program


def _lay_out(source: QemuSource, headers: Path) -> None:
    """Make the directory ``headers`` with QEMU's files, and a stub of ours for each header that
    they include and that is not among them."""
    own = (EVENT_CHANNELS.name, *_HEADERS)
    headers.mkdir()
    for name in own:
        (headers / name).write_bytes((source.tree / EVENT_CHANNELS.parent / name).read_bytes())
    (headers / _INTERFACE.parent).mkdir(parents=True)
    (headers / _INTERFACE).symlink_to(source.tree / "include" / _INTERFACE)
    for name in own:
        for included in _included((headers / name).read_text(errors="replace")):
            if included not in own and _INTERFACE not in Path(included).parents:
                stub = headers / included
                stub.parent.mkdir(parents=True, exist_ok=True)
                stub.write_text('#include "qemu.h"\n')
    text = (source.tree / _HYPERCALLS).read_text(errors="replace")
    (headers / "hypercalls.h").write_text("\n".join(_function(text, each) for each in _FUNCTIONS))


def _included(text: str) -> Iterator[str]:
    """Yield the headers that ``text`` includes in quotes, but for names that lead elsewhere."""
    for name in re.findall(r'^#include "([\w./-]+)"', text, re.MULTILINE):
        if ".." not in Path(name).parts and not name.startswith("/"):
            yield name


def _function(text: str, name: str) -> str:
    """Return the definition of function ``name`` in the C source ``text``."""
    found = re.search(
        rf"^[a-z][^;{{}}#]*\b{name}\([^;{{}}]*\)\n\{{\n.*?^\}}\n", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise BuildError(f"no function {name} in QEMU's source", where=str(_HYPERCALLS))
    return found[0]
