# SPDX-License-Identifier: GPL-2.0-or-later
"""A JSON file that holds one value of a pydantic model, and what is told of one that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness import bounded
from harness.verdict import ConfigError

_M = TypeVar("_M", bound=BaseModel)
_LONGEST_KEY = 80  # characters of a field's name: a file of somebody else may have any


def read(path: Path, model: type[_M], *, kind: str, hint: str) -> tuple[_M, dict[str, Any]]:
    """Return the ``model`` in ``path``, and the JSON object that it was made of.

    ConfigError says what is wrong with the file, and in which field.  For it: ``kind`` is what
    the file should be, as "a programme", and ``hint`` says which file to give instead.
    """
    try:
        document = bounded.json_value(bounded.content(path))
        # JSON's mode of pydantic, not Python's: a list becomes a tuple, a string an enum.
        return model.model_validate_json(json.dumps(document)), document
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValidationError as error:
        field, what = first_problem(error)
        where = f"{path}: {field}" if field else str(path)
        raise ConfigError(f"not {kind}: {what}", where=where, hint=hint) from error
    except ValueError as error:
        raise ConfigError(f"not {kind}: {error}", where=str(path), hint=hint) from error


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return (the field, what is wrong with it) of ``error``; "": it is the whole document."""
    first = error.errors(include_url=False)[0]
    return ".".join(str(part)[:_LONGEST_KEY] for part in first["loc"]), first["msg"]
