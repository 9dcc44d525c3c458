# SPDX-License-Identifier: GPL-2.0-or-later
"""Find, read and check lab.yaml; report each problem in one line, with file, line and field.

A lab file adds hosts to the built-in ones (an entry with a built-in's name replaces it)::

    hosts:
      big-arm:
        kind: qemu
        arch: arm64
        cpus: 4
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from harness.config.document import Document, did_you_mean, shown
from harness.config.host import BUILT_IN, EMULATION, is_host_name
from harness.config.physical import KINDS, Host
from harness.verdict import ConfigError

ENVIRONMENT = "EVTCHN_HARNESS_LAB"
DEFAULT = Path("lab.yaml")

_EXAMPLE = "write for example `hosts: {my-host: {arch: x86_64}}`"


def load_lab(path: Path | None = None) -> dict[str, Host]:
    """Return the built-in hosts and those of the lab file, by name.

    The file is ``path``, else $EVTCHN_HARNESS_LAB, else ./lab.yaml if there is one.
    Raises ConfigError with one line per problem found in the file.
    """
    found = _find(path)
    return {**BUILT_IN, **(_load(found) if found else {})}


def host(lab: Mapping[str, Host], name: str) -> Host:
    """Return host ``name`` of ``lab``; ConfigError lists the known ones."""
    if name in lab:
        return lab[name]
    if name == EMULATION.name:
        raise ConfigError(f"{name} has no machine", hint="only `run` and pytest take this host")
    raise ConfigError(
        f"unknown host {name!r}",
        hint=f"{did_you_mean(name, lab)}known hosts: {', '.join(sorted(lab))}",
    )


def write_without_domus(lab: Mapping[str, Host], place: Path) -> Path:
    """Write a lab file into directory ``place`` with the same hosts, but without domUs."""
    file = place / "without-domus.yaml"
    bare = {
        name: host.model_dump(mode="json", exclude={"name"}, exclude_none=True) | {"domus": 0}
        for name, host in lab.items()
    }
    file.write_text(yaml.safe_dump({"hosts": bare}))
    return file


def _find(path: Path | None) -> Path | None:
    if path is not None:
        return path
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen)
    return DEFAULT if DEFAULT.exists() else None


def _load(path: Path) -> dict[str, Host]:
    find = f"give a file with --lab or {ENVIRONMENT}"
    document = Document(path, kind="lab file", find=find, example=_EXAMPLE)
    hosts = _hosts(document)
    document.finish()
    return hosts


def _hosts(document: Document) -> dict[str, Host]:
    entries = document.sections(("hosts",)).get("hosts")
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        what = f"must map host names to fields, not {shown(entries)}"
        document.problem_at(("hosts",), what, _EXAMPLE)
        return {}
    checked = ((name, _host(document, name, entry)) for name, entry in entries.items())
    return {name: value for name, value in checked if value is not None}


def _host(document: Document, name: object, entry: object) -> Host | None:
    keys = ("hosts", name)
    if not isinstance(name, str) or not is_host_name(name):
        hint = "use letters, digits, '.', '_' and '-' (quote a number)"
        document.problem_at(keys, f"{shown(name)} cannot be a host's name", hint)
        return None
    if not isinstance(entry, dict):
        what = f"must be a mapping of fields, not {shown(entry)}"
        document.problem_at(keys, what, "write at least `arch: x86_64` below it")
        return None
    kind = entry.get("kind", "qemu")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = f"kinds known: {', '.join(KINDS)}"
        document.problem_at((*keys, "kind"), f"unknown kind {shown(kind)}", hint)
        return None
    if "name" in entry:
        hint = "the host's name is its key under hosts"
        document.problem_at((*keys, "name"), "unknown field", hint)
    fields = {str(field): value for field, value in entry.items() if field != "name"}
    return document.validate(KINDS[kind], keys, fields, name=name)
