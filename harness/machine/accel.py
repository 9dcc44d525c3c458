# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerator can run Xen here?  The CPU's flags are checked first, then Xen is booted once.

Even where /dev/kvm can be opened and a VM created, Xen may not run under KVM: (nested) SVM or
VMX may be missing, or KVM may have to emulate instructions that the hardware should run, and
cannot.  So the last check is a short boot of a real Xen; its result is remembered in the cache,
for each machine.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import cache
from harness.arch import Arch
from harness.config.host import Accel
from harness.verdict import LabError

_NATIVE = {"x86_64": Arch.X86_64, "aarch64": Arch.ARM64}


@dataclass(frozen=True)
class Choice:
    """The accelerator of a host ("kvm" or "tcg") and the reason for it, in one line."""

    accel: str
    reason: str


@dataclass(frozen=True)
class Facts:
    """What this computer has for virtualisation."""

    machine: str  # uname -m
    kvm: str  # "": /dev/kvm is usable; else why it is not
    flags: frozenset[str]  # of /proc/cpuinfo
    nested: str  # parameter "nested" of kvm_intel or kvm_amd; "": unknown


class NotTried(LabError):
    """A trial boot failed, but for a reason that says nothing about KVM."""


def facts(root: Path = Path("/")) -> Facts:
    """Read the facts from proc, sys and dev below ``root``."""
    device = root / "dev/kvm"
    if not device.exists():
        kvm = "no /dev/kvm"
    elif not os.access(device, os.R_OK | os.W_OK):
        kvm = "this user may not open /dev/kvm (add the user to the group kvm)"
    else:
        kvm = ""
    cpuinfo = root / "proc/cpuinfo"
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    flags = {
        flag
        for row in text.splitlines()
        if row.startswith(("flags", "Features"))
        for flag in row.partition(":")[2].split()
    }
    parameters = [
        root / f"sys/module/{name}/parameters/nested" for name in ("kvm_intel", "kvm_amd")
    ]
    nested = next((p.read_text().strip() for p in parameters if p.exists()), "")
    return Facts(platform.machine(), kvm, frozenset(flags), nested)


def obstacle(arch: Arch, seen: Facts) -> str:
    """Return why KVM cannot run Xen for ``arch`` here; "" if a trial boot must show it."""
    if _NATIVE.get(seen.machine) is not arch:
        return f"KVM runs {seen.machine} guests only"
    if seen.kvm:
        return seen.kvm
    if arch is Arch.ARM64:
        return "Xen on Arm needs EL2, which KVM does not give to guests"
    if not seen.flags & {"svm", "vmx"}:
        return "/dev/kvm is there, but the CPU shows neither svm nor vmx"
    if seen.nested and seen.nested not in ("1", "Y", "y"):
        return "nested virtualisation is off (kvm_intel/kvm_amd nested=0)"
    return ""


def choose(wanted: Accel, arch: Arch, trial: Callable[[], str]) -> Choice:
    """Return the accelerator for a host whose lab.yaml says ``wanted``.

    ``trial`` boots Xen under KVM for a moment and returns "" or what went wrong; its
    answer is remembered for this machine, kernel and architecture.  If it raises NotTried, nothing
    is remembered, and the next run tries again.  LabError if ``wanted`` is "kvm" and KVM cannot
    run Xen here.
    """
    if wanted == "tcg":
        return Choice("tcg", "asked for")
    seen = facts()
    why_not = obstacle(arch, seen)
    if not why_not:
        try:
            why_not = _remembered(arch, seen, trial)
        except NotTried as error:
            unknown = f"not known whether KVM can run Xen here: {error.what}"
            if wanted == "kvm":
                raise LabError(unknown, hint="correct that, or use accel: auto or tcg") from error
            return Choice("tcg", unknown)
    if not why_not:
        return Choice("kvm", "a trial boot of Xen under KVM worked")
    if wanted == "kvm":
        raise LabError(f"KVM cannot run Xen here: {why_not}", hint="use accel: auto or tcg")
    return Choice("tcg", why_not)


def _remembered(arch: Arch, seen: Facts, trial: Callable[[], str]) -> str:
    machine = {**asdict(seen), "flags": sorted(seen.flags)}
    name = cache.key("accel", arch, machine, platform.release(), platform.node())

    def make(folder: Path) -> None:
        (folder / "trial.json").write_text(json.dumps({"obstacle": trial()}))

    stored = json.loads((cache.entry("accel", name, make) / "trial.json").read_text())
    return str(stored["obstacle"])
