# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence as JSON: what journals, stores and ``run --json`` hold."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from harness.evidence.kinds import Evidence
from harness.evidence.pattern import MAIN

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def to_json(evidence: Evidence) -> dict[str, Any]:
    """Return ``evidence`` as a JSON object with its ``kind``."""
    document: dict[str, Any] = _adapter().dump_python(evidence, mode="json")
    return document


def from_json(document: object) -> Evidence | None:
    """Return the evidence that ``document`` holds; None for None and for a kind not known here.

    Raises ValueError for a wrong field.
    """
    if document is None or (isinstance(document, dict) and str(document.get("kind")) not in MAIN):
        return None
    evidence: Evidence = _adapter().validate_python(document)
    return evidence


@cache
def _adapter() -> TypeAdapter[Any]:
    # Not above: verdict.py imports this room, and every pytest of the environment imports that.
    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[Evidence, Field(discriminator="kind")])
