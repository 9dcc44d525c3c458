# SPDX-License-Identifier: GPL-2.0-or-later
"""Check this computer for what a run needs; each missing point has a command that repairs it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import libvirt
import psutil

from harness import cache, command, data
from harness.arch import Arch
from harness.machine import accel, qemu_user
from harness.machine.connection import connect, default_uri
from harness.verdict import LabError

PACKAGES = data.IMAGES / "host" / "packages.txt"
_CACHE_BYTES = 4 << 30  # two dom0 roots, two hypervisors, ccache
_SCRATCH_BYTES = 1 << 30
_MEMORY_BYTES = 3 << 30
_LINE = re.compile(r"(?P<package>\S+?)(?: \[(?P<arch>\w+)\])?:(?P<programs>.*)")


@dataclass(frozen=True)
class Check:
    """One point: ``mend`` is the command that repairs it, "" if nothing is to be repaired."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


def examine() -> list[Check]:
    """Check everything that a run needs."""
    found = [_data(), *_programs(), _libvirt(), *_accelerators()]
    return [*found, Check("QEMU's user", True, qemu_user.user()), _cache(), *_space(), _memory()]


def requirements(path: Path = PACKAGES, machine: str | None = None) -> list[tuple[str, str]]:
    """Return the (program, package) pairs that this kind of computer needs."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine or platform.machine(), "")
    found = []
    for line in path.read_text().splitlines():
        match = _LINE.fullmatch(line) if not line.startswith("#") else None
        if match and match["arch"] in (None, arch):
            found += [(program, match["package"]) for program in match["programs"].split()]
    return found


def _data() -> Check:
    missing = [name for name in data.FOLDERS if not (data.HOME / name).is_dir()]
    if missing:
        detail = f"no {', '.join(missing)} in {data.HOME}"
        return Check("data files", False, detail, "pip install --force-reinstall CHECKOUT")
    return Check("data files", True, str(data.HOME))


def _programs() -> list[Check]:
    checks = []
    for program, package in requirements():
        try:
            checks.append(Check(program, True, command.which(program, package)))
        except LabError:
            mend = f"sudo apt-get install --no-install-recommends {package}"
            checks.append(Check(program, False, "not installed", mend))
    return checks


def _libvirt() -> Check:
    uri = default_uri()
    try:
        connection = connect(uri)
    except LabError as error:
        service = "sudo systemctl start libvirtd" if os.geteuid() == 0 else "libvirtd --daemon"
        return Check("libvirt", False, str(error), service)
    version = connection.getLibVersion()
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()
    numbers = f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
    return Check("libvirt", True, f"{numbers} at {uri}")


def _accelerators() -> list[Check]:
    seen = accel.facts()
    checks = []
    for arch in Arch:
        why_not = accel.obstacle(arch, seen)
        detail = f"TCG; no KVM: {why_not}" if why_not else "TCG; the first boot will try KVM"
        checks.append(Check(f"accelerators for {arch}", True, detail))
    return checks


def _cache() -> Check:
    home = cache.root()
    try:
        cache.examine()
    except LabError as error:
        return Check("cache", False, f"{error.where}: {error.what}", error.hint)
    except OSError as error:
        mend = f"export {cache.ENVIRONMENT}=DIRECTORY"
        return Check("cache", False, f"{error.filename}: {error.strerror}", mend)
    return Check("cache", True, f"{home}: nobody else can write it")


def _space() -> list[Check]:
    checks = []
    for name, folder, wanted, variable in (
        ("space for the cache", cache.root(), _CACHE_BYTES, cache.ENVIRONMENT),
        ("space for scratch files", Path(tempfile.gettempdir()), _SCRATCH_BYTES, "TMPDIR"),
    ):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        detail = f"{free / 2**30:.1f} GiB free at {folder}, {wanted >> 30} GiB wanted"
        ok = free >= wanted and os.access(there, os.W_OK)
        mend = "" if ok else f"export {variable}=DIRECTORY-WITH-SPACE"
        checks.append(Check(name, ok, detail, mend))
    return checks


def _memory() -> Check:
    free = psutil.virtual_memory().available
    ok = free >= _MEMORY_BYTES
    detail = f"{free / 2**30:.1f} GiB available, {_MEMORY_BYTES >> 30} GiB wanted per host"
    mend = "" if ok else "set a smaller memory_mib for the host in lab.yaml"
    return Check("memory", ok, detail, mend)
