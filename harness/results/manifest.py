# SPDX-License-Identifier: GPL-2.0-or-later
"""manifest.json: the versions and digests that are needed to repeat a run."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ValidationError

import harness
from harness import bounded, git
from harness.command import run
from harness.config.host import Domains
from harness.config.json_file import first_problem
from harness.data import CHECKOUT
from harness.results.directory import RunDirectory, write_whole
from harness.results.seal import checksum
from harness.shown import without_secrets_in
from harness.verdict import LabError

# Programs whose version can change the result of a run.
PROGRAMS = (
    "qemu-system-x86_64",
    "qemu-system-aarch64",
    "libvirtd",
    "virsh",
    "gcc",
    "aarch64-linux-gnu-gcc",
    "ld",
    "make",
    "ccache",
    "mke2fs",
    "git",
)


@dataclass(frozen=True)
class Ingredient:
    """One thing that went into a run: a source tree, a build, an image, a package in an image."""

    what: str  # source, patch, build, rules, toolstack, image, package
    name: str
    version: str = ""
    digest: str = ""  # with its algorithm, e.g. "sha256:..."; "": it has none
    detail: Mapping[str, str] = field(default_factory=dict)


def write_manifest(
    directory: RunDirectory,
    *,
    seed: int,
    argv: Sequence[str],
    hosts: Sequence[Domains],
    ingredients: Sequence[Ingredient],
) -> None:
    """Write manifest.json, again whenever more ingredients are known; LabError if it fails."""
    document = {
        "seed": seed,
        "argv": list(argv),
        "hosts": {host.name: host.model_dump(mode="json") for host in hosts},
        "ingredients": [asdict(ingredient) for ingredient in ingredients],
        **environment(),
    }
    document = without_secrets_in(json.loads(json.dumps(document)))
    document["crc32"] = checksum(document)
    write_whole(directory.manifest, json.dumps(document, indent=1) + "\n")


def read_manifest(directory: RunDirectory) -> dict[str, Any]:
    """Return the manifest of a run; {} if the run was killed before it wrote one, or there is a
    ``problem`` with it."""
    return _read_manifest(directory)[0]


def problem(directory: RunDirectory) -> str:
    """Return why the manifest of a run cannot be read; "" if it can, or there is none."""
    why = _read_manifest(directory)[1]
    return why and f"{directory.manifest.name}: {why}"


class _Shown(BaseModel):
    """What a report shows of a manifest."""

    harness: Mapping[str, str | bool] = {}
    machine: Mapping[str, str | int | None] = {}
    programs: Mapping[str, str | None] = {}
    ingredients: tuple[Ingredient, ...] = ()


def _read_manifest(directory: RunDirectory) -> tuple[dict[str, Any], str]:
    try:
        document = bounded.json_value(bounded.content(directory.manifest))
        _Shown.model_validate(document)
        seen = document.pop("crc32", "")
        if seen and seen != checksum(document):
            return {}, "not as it was written: wrong checksum"
        return document, ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, error.strerror or "cannot be read"
    except ValidationError as error:
        place, what = first_problem(error)
        return {}, f"{place}: {what}" if place else "not a JSON object"
    except ValueError:
        return {}, "damaged"


def environment() -> dict[str, Any]:
    """Return what comes from this computer: harness, Python, programs, processor, kernel."""
    return {
        "harness": {"version": harness.__version__, **_commit()},
        "python": {"version": platform.python_version(), "packages": _packages()},
        "programs": {name: _version(name) for name in PROGRAMS},
        "machine": {
            "processor": _processor(),
            "architecture": platform.machine(),
            "cpus": os.cpu_count(),
            "memory_mib": psutil.virtual_memory().total >> 20,
            "kernel": f"{platform.system()} {platform.release()}",
            "system": _system(),
        },
    }


def _commit() -> dict[str, Any]:
    """Return the commit of the git checkout that we run from; {} if it is none."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return {}
    status = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]
    try:
        head = git.run("rev-parse", "HEAD", tree=CHECKOUT, timeout=10).strip()
        changed = git.run(*status, tree=CHECKOUT, timeout=10)
    except LabError:  # no git, no commit yet, or no permission
        return {}
    return {"commit": head, "modified": bool(changed.strip())}


@functools.cache
def _packages() -> dict[str, str]:
    installed = importlib.metadata.distributions()
    found = (
        (dist.name, dist.version) for dist in installed if dist.name
    )  # None: the package was removed incompletely
    return dict(sorted(found, key=lambda pair: pair[0].lower()))


def _version(program: str) -> str | None:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        return None
    option = "-V" if program == "mke2fs" else "--version"
    try:
        return run([path, option], timeout=10).strip().splitlines()[0]
    except (LabError, IndexError):
        return "unknown"


def _processor() -> str:
    text = _read(Path("/proc/cpuinfo"))
    names = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", text, re.MULTILINE)
    return names[1] if names else platform.processor()


def _system() -> str:
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read(Path("/etc/os-release")), re.MULTILINE)
    return name[1] if name else platform.platform()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
