# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's report as text; harness.results.model_page makes a page of it."""

from __future__ import annotations

from harness.model.findings import ReportSection, text_lines


def text(sections: tuple[ReportSection, ...]) -> str:
    """Return the report as plain text."""
    return "\n".join(text_lines(sections)).strip()
