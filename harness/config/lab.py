"""lab.yaml to hosts: found, read, checked; one line per problem, with file, line and field.

A lab file adds hosts to the built-in ones (an entry with a built-in's name replaces it)::

    hosts:
      big-arm:
        kind: qemu
        arch: arm64
        cpus: 4
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config import schema
from harness.config.host import BUILT_IN
from harness.config.physical import KINDS, Host
from harness.verdict import ConfigError

ENVIRONMENT = "EVTCHN_HARNESS_LAB"
DEFAULT = Path("lab.yaml")

# A host's name becomes a directory, a libvirt domain and a word on the command line.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SECTIONS = ("hosts",)


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
    raise ConfigError(
        f"unknown host {name!r}",
        hint=f"{_did_you_mean(name, lab)}known hosts: {', '.join(sorted(lab))}",
    )


def _find(path: Path | None) -> Path | None:
    if path is not None:
        return path
    if chosen := os.environ.get(ENVIRONMENT):
        return Path(chosen)
    return DEFAULT if DEFAULT.exists() else None


def _load(path: Path) -> dict[str, Host]:
    lab = _LabFile(path)
    hosts = lab.hosts()
    if lab.problems:
        raise ConfigError("\n".join(text for _, text in sorted(lab.problems)))
    return hosts


class _LabFile:
    """One lab file while it is being checked; ``problems`` are (line, finished text)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[tuple[int, str]] = []
        self.root = _compose(path)
        for where, line in _duplicates(self.root):  # first: merging "<<" adds keys to the nodes
            self._problem(line, where, "given twice", "keep one of the two")
        self.values = _construct(path, self.root)

    def hosts(self) -> dict[str, Host]:
        if self.values is None:  # empty, or all commented out: adds nothing
            return {}
        if not isinstance(self.values, dict):
            self._problem(1, "", f"must be a mapping, not {_shown(self.values)}", _EXAMPLE)
            return {}
        for section in self.values:
            if section not in _SECTIONS:
                hint = f"{_did_you_mean(str(section), _SECTIONS)}known: {', '.join(_SECTIONS)}"
                self._problem(self._line(section), str(section), "unknown section", hint)
        entries = self.values.get("hosts")
        if entries is None:
            return {}
        if not isinstance(entries, dict):
            what = f"must map host names to fields, not {_shown(entries)}"
            self._problem(self._line("hosts"), "hosts", what, _EXAMPLE)
            return {}
        checked = ((name, self._host(name, entry)) for name, entry in entries.items())
        return {name: value for name, value in checked if value is not None}

    def _host(self, name: object, entry: object) -> Host | None:
        line, where = self._line("hosts", name), f"hosts.{name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            hint = "use letters, digits, '.', '_' and '-' (quote a number)"
            self._problem(line, where, f"{_shown(name)} cannot be a host's name", hint)
            return None
        if not isinstance(entry, dict):
            what = f"must be a mapping of fields, not {_shown(entry)}"
            self._problem(line, where, what, "write at least `arch: x86_64` below it")
            return None
        kind = entry.get("kind", "qemu")
        if not isinstance(kind, str) or kind not in KINDS:
            hint = f"kinds known: {', '.join(KINDS)}"
            what = f"unknown kind {_shown(kind)}"
            self._problem(self._line("hosts", name, "kind"), f"{where}.kind", what, hint)
            return None
        if "name" in entry:
            hint = "the host's name is its key under hosts"
            self._problem(self._line("hosts", name, "name"), f"{where}.name", "unknown field", hint)
        fields = {str(field): value for field, value in entry.items() if field != "name"}
        return self._validate(name, KINDS[kind], fields)

    def _validate(self, name: str, kind: type[BaseModel], fields: dict[str, Any]) -> Host | None:
        # JSON's strict mode, not Python's: an int is an int, an enum is its string.
        try:
            text = json.dumps({**fields, "name": name}, default=str, skipkeys=True)
        except ValueError:
            what, hint = "contains itself", "write the values out instead of the alias"
            self._problem(self._line("hosts", name), f"hosts.{name}", what, hint)
            return None
        try:
            return kind.model_validate_json(text, strict=True)  # type: ignore[return-value]
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                place = schema.place(kind, detail["loc"])
                what, hint = _words(detail, place.fields)
                where = ".".join(("hosts", name, *map(str, place.path)))
                self._problem(self._line("hosts", name, *place.path), where, what, hint)
            return None

    def _problem(self, line: int, where: str, what: str, hint: str) -> None:
        field = f"{where}: " if where else ""
        self.problems.append((line, f"{self.path}:{line}: {field}{what}; {hint}"))

    def _line(self, *keys: object) -> int:
        return _line(self.root, keys)


_EXAMPLES = {
    "arch": "x86_64",
    "power": "[{driver: ipmi, address: bmc, user: admin, password: {file: bmc.password}}]",
    "console": "{driver: tcp, address: console-server, port: 4001}",
    "ssh": "{address: server, key_file: id_ed25519, host_key: ssh-ed25519 AAAA...}",
    "password": "{file: bmc.password}",
}
_EXAMPLE = "write for example `hosts: {my-host: {arch: x86_64}}`"


def _compose(path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            "not UTF-8 text", where=f"{path}:{line}", hint="save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read the lab file: {error.strerror}",
            where=str(path),
            hint=f"give a file with --lab or {ENVIRONMENT}",
        ) from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _broken(path, error) from None
    except RecursionError:
        raise ConfigError("nested too deeply", where=str(path), hint=_EXAMPLE) from None


def _construct(path: Path, root: yaml.Node | None) -> object:
    if root is None:
        return None
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise _broken(path, error) from None
    finally:
        loader.dispose()


def _broken(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = f":{mark.line + 1}" if mark else ""
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    said = f"{what} {context}" if context else what
    column = f"look at column {mark.column + 1} and the lines above" if mark else "correct it"
    return ConfigError(f"broken YAML: {said}", where=f"{path}{position}", hint=column)


def _duplicates(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Yield (dotted path, line) of every key that its mapping has already had."""
    visited: set[int] = set()  # an alias may even point at its own ancestor

    def walk(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
        if id(node) in visited:
            return
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from walk(item, f"{path}{index}.")
        if not isinstance(node, yaml.MappingNode):
            return
        had: set[tuple[str, str]] = set()
        for key, value in node.value:
            name = str(key.value)
            if (key.tag, name) in had:
                yield f"{path}{name}", key.start_mark.line + 1
            had.add((key.tag, name))
            yield from walk(value, f"{path}{name}.")

    return walk(root, "") if root is not None else iter(())


def _line(root: yaml.Node | None, keys: Iterable[object]) -> int:
    """Return the line (from 1) of the deepest key of the path ``keys`` that the file has."""
    node, line = root, 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        same = [(k, v) for k, v in pairs if k.value == str(key)]
        if not same:
            break
        line, node = same[-1][0].start_mark.line + 1, same[-1][1]  # YAML lets the last one win
    return line


def _words(detail: ErrorDetails, known: tuple[str, ...]) -> tuple[str, str]:
    """Return (what is wrong, what to do) in plain words for one of pydantic's errors."""
    limits = detail.get("ctx", {})
    field = str(detail["loc"][-1]) if detail["loc"] else ""
    value = "text" if field == "password" else _shown(detail["input"])  # never tell a secret
    match detail["type"]:
        case "extra_forbidden":
            return "unknown field", f"{_did_you_mean(field, known)}known: {', '.join(known)}"
        case "missing":
            return "missing", f"add it, for example `{field}: {_EXAMPLES.get(field, '...')}`"
        case "union_tag_invalid":
            return f"unknown driver {_shown(limits['tag'])}", f"use {limits['expected_tags']}"
        case "union_tag_not_found":
            return "does not say its driver", "add `driver: ` and which one"
        case "model_type" | "model_attributes_type":
            return f"must be a mapping of fields, not {value}", f"known: {', '.join(known)}"
        case "tuple_type":
            return f"must be a list, not {value}", "write each element behind `- `, or [a, b]"
        case "too_short":
            return "must not be empty", "give at least one"
        case "enum" | "literal_error":
            return f"cannot be {value}", f"use {limits['expected']}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"must be a whole number, not {value}", "write digits only, without quotes"
        case "greater_than_equal":
            return f"{value} is too small", f"use {limits['ge']} or more"
        case "less_than_equal":
            return f"{value} is too big", f"use {limits['le']} or less"
        case "string_type":
            return f"must be text, not {value}", "put it in quotes"
        case "value_error":
            what, _, hint = str(limits["error"]).partition("; ")
            return what, hint
        case _:
            return detail["msg"], f"it is {value}"


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""


def _shown(value: object) -> str:
    is_word = value is None or isinstance(value, bool)  # as YAML writes them
    text = json.dumps(value) if is_word else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
