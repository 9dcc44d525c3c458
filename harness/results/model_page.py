# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's report (harness.model.findings) as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from harness import page
from harness.model.findings import ReportSection


def html(sections: Sequence[ReportSection]) -> str:
    """Return the report as an HTML page that needs no other file."""
    return page.render(
        "model.html.j2",
        {"sections": sections, "colour": _colour},
        packages=("harness.results",),
        styles=("model.css",),
    )


def _colour(row: tuple[str, ...]) -> str:
    if any(cell.startswith(("refuted", "deadlock", "ABBA", "DIFFERS")) for cell in row):
        return "bad"
    return "good" if any(cell in ("proved", "as expected", "equivalent") for cell in row) else ""
