# SPDX-License-Identifier: GPL-2.0-or-later
"""summary.txt: the night as a page of plain text for mail, in 72 columns; what is new comes
first."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence

from harness.nightly.detect import Finding, group_findings
from harness.nightly.night_report import NightReport, count_verdicts, duration
from harness.nightly.schema import CellRow
from harness.shown import shown
from harness.verdict import Verdict

_WIDTH = 72
_MOST = 20  # entries of a list; the dashboard has all of them

_TITLES = {
    ("failing", True): "Newly failing",
    ("failing", False): "Still failing",
    ("flaky", True): "New flakes",
    ("flaky", False): "Known flakes",
    ("slower", True): "Slower since a new hypervisor",
    ("slower", False): "Still slower",
    ("symptom", True): "New symptoms on consoles",
    ("symptom", False): "Known symptoms on consoles",
    ("drift", True): "Slower, with the same hypervisor",
    ("drift", False): "Still slower, with the same hypervisor",
    ("fixed", True): "Fixed",
    ("fixed", False): "Fixed",
}


def subject(report: NightReport) -> str:
    """Return one line: the verdict, and how many findings are new."""
    fresh = [finding.judgement.kind for finding in report.findings if finding.is_new]
    words = {
        "failing": "newly failing",
        "flaky": "new flaky",
        "drift": "slower machine",
        "symptom": "new symptom",
    }
    news = ", ".join(
        f"{len(list(group))} {words.get(kind, kind)}"
        for kind, group in itertools.groupby(sorted(fresh))
    )
    return f"[evtchn nightly] {report.verdict} {report.night.id}: {news or 'nothing new'}"


def render_summary(report: NightReport, place: str) -> str:
    """Return the text; ``place`` is the path or the URL of the dashboard."""
    counts = ", ".join(f"{count} {name}" for name, count in count_verdicts(report.cells).items())
    lines = [
        f"Subject: {subject(report)}",
        "",
        f"{len(report.done)} of {len(report.cells)} cells in {duration(report.seconds)}: {counts}",
    ]
    if report.night.ended is None:
        lines.append("The night has not ended: cells that have not run yet may still fail.")
    for (kind, is_new), found in _groups(report.findings):
        lines += ["", f"{_TITLES[kind, is_new]} ({len(found)})"]
        lines += _limited([_line(group) for group in group_findings(found)])
    faults = [c for c in report.done if c.verdict in (Verdict.MISS, Verdict.ERROR)]
    lines += _cells("No result, because of the lab or the harness", faults)
    lines += _cells("Not run", report.left)
    return shown("\n".join([*lines, "", place, ""]))


def _groups(
    findings: Sequence[Finding],
) -> Iterator[tuple[tuple[str, bool], list[Finding]]]:
    for key, group in itertools.groupby(findings, key=lambda f: (f.judgement.kind, f.is_new)):
        yield key, list(group)


def _line(group: Sequence[Finding]) -> str:
    first = group[0]
    if first.judgement.kind in ("slower", "drift"):
        names = ", ".join(f"{one.name} {one.judgement.text}" for one in group)
        return f"{' '.join(first.key)} since {first.judgement.since}: {names}"
    return "; ".join(f"{' '.join(one.key)} {one.name}: {one.judgement.text}" for one in group)


def _cells(title: str, cells: Sequence[CellRow]) -> list[str]:
    if not cells:
        return []
    texts = [f"{' '.join(c.key)}: {c.verdict or c.state} {c.message}".rstrip() for c in cells]
    return ["", f"{title} ({len(cells)})", *_limited(texts)]


def _limited(texts: Sequence[str]) -> list[str]:
    lines = [
        textwrap.fill(
            text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
        for text in texts[:_MOST]
    ]
    return lines + [f"  and {len(texts) - _MOST} more"] * (len(texts) > _MOST)
