# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's report as one self-contained HTML page, and as text."""

from __future__ import annotations

from html import escape

from harness.model.findings import ReportSection, text_lines

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { border: 1px solid #c9d1d9; padding: .3rem .6rem; text-align: left; vertical-align: top; }
th { background: #eef2f6; }
tr.bad td { background: #fff1f0; } tr.good td { background: #f0fff4; }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; font-size: 12px; }
summary { cursor: pointer; font-weight: 600; margin: .4rem 0; }
"""


def text(sections: tuple[ReportSection, ...]) -> str:
    """Return the report as plain text."""
    return "\n".join(text_lines(sections)).strip()


def html(sections: tuple[ReportSection, ...]) -> str:
    """Return the report as an HTML page that needs no other file."""
    body = "\n".join(_section(section) for section in sections)
    title = "The reference model: what it proves and refutes"
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: ReportSection) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", f"<p>{escape(section.words)}</p>"]
    if section.head:
        parts.append(_table(section))
    for trace in section.traces:
        steps = escape("\n".join(trace.lines))
        summary = escape(trace.title)
        parts.append(f"<details><summary>{summary}</summary><pre>{steps}</pre></details>")
    return "\n".join(parts)


def _table(section: ReportSection) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in section.head)
    rows = "\n".join(
        f'<tr class="{_colour(row)}">{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>'
        for row in section.rows
    )
    return f"<table>\n<tr>{head}</tr>\n{rows}\n</table>"


def _colour(row: tuple[str, ...]) -> str:
    if any(cell.startswith(("refuted", "deadlock", "ABBA", "DIFFERS")) for cell in row):
        return "bad"
    return "good" if any(cell in ("proved", "as expected", "equivalent") for cell in row) else ""
