"""Which accelerator can run Xen here: decided from the CPU, then from one trial boot.

A machine can have /dev/kvm, open it, even create a VM, and Xen still cannot run on
it: without (nested) SVM/VMX, or with a KVM whose instruction emulator meets code
that the hardware should have run.  So flags first, then a short boot of a real Xen,
remembered per machine in the cache.
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
    """The accelerator of a host ("kvm" or "tcg") and, in one line, why."""

    accel: str
    reason: str


@dataclass(frozen=True)
class Facts:
    """What this machine says about its virtualisation."""

    machine: str  # uname -m
    kvm: str  # "" usable, else why /dev/kvm is not
    flags: frozenset[str]  # of /proc/cpuinfo
    nested: str  # kvm_intel/kvm_amd parameter "nested", "" unknown


def facts(root: Path = Path("/")) -> Facts:
    """Read the facts below ``root``."""
    device = root / "dev/kvm"
    if not device.exists():
        kvm = "no /dev/kvm"
    elif not os.access(device, os.R_OK | os.W_OK):
        kvm = "/dev/kvm is not ours to open (add yourself to the group kvm)"
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
    """Return why KVM cannot run Xen for ``arch`` here, or "" when a trial is worth it."""
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
    """Choose for a host that asks for ``wanted``.

    ``trial`` boots Xen under KVM for a moment and returns "" or what went wrong; its
    answer is remembered for this machine, kernel and architecture.  ``wanted="kvm"``
    on a machine that cannot is a LabError.
    """
    if wanted == "tcg":
        return Choice("tcg", "asked for")
    seen = facts()
    why_not = obstacle(arch, seen)
    if not why_not:
        why_not = _remembered(arch, seen, trial)
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
