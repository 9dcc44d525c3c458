# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the field of a pydantic error: its path in the file, and the model that it belongs to."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class Place:
    """``path`` of keys and list positions; ``model`` of the mapping that it leads to or is in, and
    ``holder``: of the mapping that has, or should have, the last key."""

    path: tuple[str | int, ...]
    model: type[BaseModel]
    holder: type[BaseModel]


def place(model: type[BaseModel], location: Sequence[str | int]) -> Place:
    """Return the place of pydantic's error ``location`` in ``model``.

    After the key of a union, ``location`` has the name of the driver, which is not in the file.
    """
    path: list[str | int] = []
    inside: type[BaseModel] = model
    holder = model
    choices: list[type[BaseModel]] = []
    for number, part in enumerate(location):
        tagged = [choice for choice in choices if _driver(choice) == part]
        if tagged:
            inside, choices = tagged[0], []
            continue
        path.append(part)
        holder = inside
        last = number == len(location) - 1
        if isinstance(part, int) or (last and part not in inside.model_fields):
            continue
        field = inside.model_fields.get(part)
        choices = list(_models(field.annotation)) if field is not None else []
        if len(choices) == 1:
            inside, choices = choices[0], []
    return Place(tuple(path), inside, holder)


def _driver(model: type[BaseModel]) -> object:
    field = model.model_fields.get("driver")
    return typing.get_args(field.annotation)[0] if field is not None else None


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
