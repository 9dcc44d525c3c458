"""Click's options for what ``harness.config.options`` declares, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness.config.options import DEFAULT_HOST, Option, RunOptions, XenOptions, table

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def takes(kind: type[XenOptions], argument: str, **changes: dict[str, Any]) -> Decorator:
    """Give a command all options of ``kind``; it is called with their values as one ``argument``.

    ``changes``: by field, what click shall take otherwise than it is declared.
    """
    declared = table(kind)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            values = {field: given.pop(field) for field in declared}
            return command(**{argument: kind(**values)}, **given)

        made: Callable[..., Any] = called
        for field in reversed(declared):
            made = _click(declared[field], changes.get(field, {}))(made)
        return made

    return decorate


def option(field: str, **changes: Any) -> Decorator:
    """Give a command one of a run's options, called with its value as ``field``.

    ``changes``: what click shall take otherwise than it is declared.
    """
    return _click(table(RunOptions)[field], changes)


def host_option(**changes: Any) -> Decorator:
    """Give a command the option for its one host."""
    one = {
        "multiple": False,
        "default": DEFAULT_HOST,
        "show_default": True,
        "help": "Host to boot.",
    }
    return option("host", **one | changes)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and nothing else."
)


def _click(declared: Option, changes: dict[str, Any]) -> Decorator:
    said: dict[str, Any] = {"help": declared.help, "metavar": declared.metavar}
    if declared.type is bool:
        said["is_flag"] = True
    elif declared.type is Path:
        said["type"] = click.Path(path_type=Path)
    else:
        said["type"] = click.Choice(declared.choices) if declared.choices else declared.type
    if declared.several:
        said["multiple"] = True
    elif not isinstance(declared.default, bool | None):
        said |= {"default": declared.default, "show_default": True}
    return click.option(declared.name, declared.field, **said | changes)
