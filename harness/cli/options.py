# SPDX-License-Identifier: GPL-2.0-or-later
"""Click's options for what ``harness.config.options`` declares, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness.config.options import DEFAULT_HOST, Option, RunOptions, XenOptions, table

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def takes(kind: type[XenOptions], argument: str, **changes: dict[str, Any]) -> Decorator:
    """Give a command all options of ``kind``; it is called with their values as one ``argument``.

    ``changes``: by field, in what the command's option is not as it is declared.
    """
    declared = {
        field: replace(each, **changes.get(field, {})) for field, each in table(kind).items()
    }

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            values = {field: given.pop(field) for field in declared}
            return command(**{argument: kind(**values)}, **given)

        made: Callable[..., Any] = called
        for each in reversed(declared.values()):
            made = _click(each)(made)
        return made

    return decorate


def option(field: str, **changes: Any) -> Decorator:
    """Give a command one of a run's options, called with its value as ``field``.

    ``changes``: in what the command's option is not as it is declared.
    """
    return _click(replace(table(RunOptions)[field], **changes))


def host_option(help: str = "Host to boot.", **changes: Any) -> Decorator:
    """Give a command the option for its one host; ``changes`` as above."""
    one = {"several": False, "default": DEFAULT_HOST, "unset": ""} | changes
    return option("host", help=help, **one)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and nothing else."
)


def _click(declared: Option) -> Decorator:
    said: dict[str, Any] = {"help": declared.explained, "required": declared.required}
    if declared.type is bool:
        return click.option(declared.name, declared.field, is_flag=True, **said)
    kind: Any = click.Path(path_type=Path) if declared.type is Path else declared.type
    said["type"] = click.Choice(declared.choices) if declared.choices else kind
    said["metavar"] = declared.metavar
    if declared.several:
        said["multiple"] = True
    elif not declared.required:
        said["default"] = declared.default
    return click.option(declared.name, declared.field, **said)
