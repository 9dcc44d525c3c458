# SPDX-License-Identifier: GPL-2.0-or-later
"""A YAML file that is checked: its values, the line of each value, and the problems found."""

from __future__ import annotations

import difflib
import json
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness import bounded
from harness.config import bounded_yaml, schema
from harness.verdict import ConfigError

_M = TypeVar("_M", bound=BaseModel)


class Document:
    """One file; ``problems`` are (line, finished text), in the order they were found.

    For the messages: ``kind`` is what to call the file, ``find`` says how to give another file,
    ``example`` shows a correct one.  Raises ConfigError if the file is not YAML at all.
    """

    def __init__(self, path: Path, *, kind: str, find: str, example: str) -> None:
        self.path = path
        self.example = example
        self.problems: list[tuple[int, str]] = []
        self._root = _compose(_read(path, kind, find), path, example)
        for where, line in _duplicates(self._root):  # first: merging "<<" adds keys to the nodes
            self.problem(line, where, "given twice", "keep one of the two")
        self.values = _construct(path, self._root)

    def problem(self, line: int, where: str, what: str, hint: str) -> None:
        """Note one more problem, at field ``where`` ("" for the whole file)."""
        field = f"{where}: " if where else ""
        self.problems.append((line, f"{self.path}:{line}: {field}{what}; {hint}"))

    def problem_at(self, keys: Iterable[object], what: str, hint: str) -> None:
        """Note one more problem, at the field that ``keys`` lead to."""
        path = list(keys)
        self.problem(self.line(*path), ".".join(str(key) for key in path), what, hint)

    def line(self, *keys: object) -> int:
        """Return the line (from 1) of the deepest of ``keys`` that the file has."""
        return _line(self._root, keys)

    def sections(self, known: Iterable[str]) -> dict[str, Any]:
        """Return the file's top level; a problem if that is no mapping or has unknown keys."""
        names = list(known)
        if self.values is None:  # empty, or all commented out
            return {}
        if not isinstance(self.values, dict):
            self.problem(1, "", f"must be a mapping, not {shown(self.values)}", self.example)
            return {}
        for section in self.values:
            if section not in names:
                hint = f"{did_you_mean(str(section), names)}known: {', '.join(names)}"
                self.problem(self.line(section), str(section), "unknown section", hint)
        return {name: self.values[name] for name in names if name in self.values}

    def validate(
        self, model: type[_M], keys: tuple[object, ...], fields: dict[str, Any], **given: Any
    ) -> _M | None:
        """Return ``fields``, found at ``keys``, as a ``model``; None if that has problems.

        ``given`` are fields of the model that the file must not set.
        """
        # JSON's strict mode, not Python's: an int is an int, an enum is its string.
        try:
            text = json.dumps({**fields, **given}, default=str, skipkeys=True, allow_nan=False)
        except (ValueError, RecursionError) as error:
            what, hint = _no_json(error)
            self.problem_at(keys, what, hint)
            return None
        try:
            return model.model_validate_json(text, strict=True)
        except ValidationError as error:
            for detail in _telling(error.errors(include_url=False)):
                place = schema.place(model, detail["loc"])
                about = place.holder if detail["type"] == "missing" else place.model
                self.problem_at((*keys, *place.path), *_words(detail, about, given))
            return None

    def finish(self) -> None:
        """Raise ConfigError with every problem found, in the file's order."""
        if self.problems:
            raise ConfigError("\n".join(text for _, text in sorted(self.problems)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean ...? " with the most similar one of ``known``; "" if none is similar."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""


def shown(value: object) -> str:
    """Return ``value`` as a message quotes it."""
    is_word = value is None or isinstance(value, bool)  # as YAML writes them
    try:
        text = json.dumps(value) if is_word else repr(value)
    except (ValueError, RecursionError):  # more than 4300 digits; or far too deep
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _read(path: Path, kind: str, find: str) -> str:
    try:
        return bounded.text(path, bounded_yaml.LARGEST_FILE)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            "not UTF-8 text", where=f"{path}:{line}", hint="save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read the {kind}: {error.strerror}", where=str(path), hint=find
        ) from None


def _compose(text: str, path: Path, example: str) -> yaml.Node | None:
    try:
        return bounded_yaml.node(text)
    except yaml.YAMLError as error:
        raise _broken(path, error) from None
    except ValueError as error:
        raise ConfigError(str(error), where=str(path), hint=example) from None


def _construct(path: Path, root: yaml.Node | None) -> object:
    try:
        return bounded_yaml.value(root)
    except (yaml.YAMLError, ValueError) as error:
        raise _broken(path, error) from None


def _no_json(error: Exception) -> tuple[str, str]:
    """Return (what is wrong, what to do) for values that JSON cannot have."""
    said = str(error)
    if "Circular" in said:
        return "contains itself", "write the values out instead of the alias"
    if isinstance(error, RecursionError):
        return "nested too deeply", "write fewer levels"
    return "a number that nobody can use", "correct .inf, .nan and numbers of many digits"


def _broken(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = f":{mark.line + 1}" if mark else ""
    what = getattr(error, "problem", None) or (str(error).splitlines() or ["damaged"])[0]
    context = getattr(error, "context", None)
    said = f"{what} {context}" if context else what
    column = f"look at column {mark.column + 1} and the lines above" if mark else "correct it"
    return ConfigError(f"broken YAML: {said}", where=f"{path}{position}", hint=column)


def _duplicates(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Yield (dotted path, line) of every key that its mapping has a second time."""
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
    node, line = root, 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode):
            if not isinstance(key, int) or key >= len(node.value):
                break
            node = node.value[key]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        same = [(k, v) for k, v in pairs if k.value == str(key)]
        if not same:
            break
        line, node = same[-1][0].start_mark.line + 1, same[-1][1]  # YAML lets the last one win
    return line


def _telling(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Yield ``details`` without those that only follow from another one.

    A list whose only item is wrong is too short for pydantic, and a misspelt field is unknown and
    missing as well.
    """
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    for detail in details:
        *mapping, field = detail["loc"] or ("",)
        misspelt = [str(loc[-1]) for loc in unknown if [*loc[:-1]] == mapping]
        if detail["type"] == "missing" and difflib.get_close_matches(str(field), misspelt, n=1):
            continue
        if detail["type"] == "too_short" and detail["input"]:
            continue
        yield detail


def _words(detail: ErrorDetails, model: type[BaseModel], given: Container[str]) -> tuple[str, str]:
    """Return (what is wrong, what to do) in plain words for one of pydantic's errors."""
    limits = detail.get("ctx", {})
    field = str(detail["loc"][-1]) if detail["loc"] else ""
    value = "text" if field == "password" else shown(detail["input"])  # never tell a secret
    # What it is comes first: the kind.
    fields = sorted(model.model_fields, key=lambda name: name not in ("kind", "driver"))
    known = [name for name in fields if name not in given]
    match detail["type"]:
        case "extra_forbidden":
            return "unknown field", f"{did_you_mean(field, known)}known: {', '.join(known)}"
        case "missing":
            (example, *_) = model.model_fields[field].examples or ["..."]
            return "missing", f"add it, for example `{field}: {example}`"
        case "union_tag_invalid":
            return f"unknown driver {shown(limits['tag'])}", f"use {limits['expected_tags']}"
        case "union_tag_not_found":
            return "has no driver", "add `driver: ` with the driver's name"
        case "dict_type":
            what = f"must be a mapping of fields, not {value}"
            return what, "write it as `{driver: NAME, ...}`"
        case "model_type" | "model_attributes_type":
            return f"must be a mapping of fields, not {value}", f"known: {', '.join(known)}"
        case "too_short":
            return "must not be empty", "give at least one"
        case "enum" | "literal_error":
            return f"cannot be {value}", f"use {limits['expected']}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"must be a whole number, not {value}", "write digits only, without quotes"
        case "float_type" | "float_parsing":
            return f"must be a number, not {value}", "write digits only, without quotes"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, not {value}", "write one of the two, without quotes"
        case "tuple_type" | "list_type":
            return f"must be a list, not {value}", "write it as `[one, two]`"
        case "greater_than_equal":
            return f"{value} is too small", f"use {limits['ge']} or more"
        case "greater_than":
            return f"{value} is too small", f"use more than {limits['gt']:g}"
        case "less_than_equal":
            return f"{value} is too big", f"use {limits['le']} or less"
        case "string_type":
            return f"must be text, not {value}", "put it in quotes"
        case "value_error":
            what, _, hint = str(limits["error"]).partition("; ")
            return what, hint
        case _:
            return detail["msg"], f"it is {value}"
