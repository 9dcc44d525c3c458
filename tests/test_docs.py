# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation: links lead somewhere, indexes are whole, the specification is the code's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.evtchn.changed_rules import TABLE
from harness.model.evtchn.spec_rows import SPEC_ROWS

ROOT = Path(__file__).parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as web pages of git repositories make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in _LINK.findall(text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in _anchors(found), target


@pytest.mark.parametrize(
    ("index", "folder"),
    [("docs/README.md", "docs"), ("docs/decisions/README.md", "docs/decisions")],
)
def test_an_index_has_every_page(index: str, folder: str) -> None:
    page = ROOT / index
    linked = {(page.parent / target).resolve() for target in _LINK.findall(page.read_text())}
    assert set((ROOT / folder).glob("*.md")) - {page} <= linked


def _rows() -> Iterator[str]:
    operation = ""
    for line in (ROOT / "docs" / "spec" / "evtchn.md").read_text().splitlines():
        if line.startswith("#"):
            operation = line.removeprefix("### ") if line.startswith("### ") else ""
        elif operation and (row := re.match(r"\| `([^`]+)` \|", line)):
            yield f"{operation}: {row[1]}"


def test_the_specification_has_the_rows_of_the_model() -> None:
    rows = list(_rows())
    assert len(rows) == len(set(rows))
    assert set(rows) == SPEC_ROWS


def test_the_specification_has_the_rules_that_changed_with_their_commits() -> None:
    page = (ROOT / "docs" / "spec" / "evtchn.md").read_text()
    _, _, after = page.partition("## Rules that changed\n")
    table, _, _ = after.partition("\n### ")
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    told = {line.split("`")[1]: line for line in lines}
    assert list(told) == [each.rule for each in TABLE]
    for each in TABLE:
        *_, commits, first, _ = told[each.rule].split("|")
        assert re.findall(r"[0-9a-f]{12}", commits) == [commit.sha for commit in each.commits]
        points = [f"{a}.{b}.{c}" for commit in each.commits for a, b, c in commit.backports]
        releases = [str(commit.release) for commit in each.commits]
        assert re.findall(r"\d[\d.]*\d", first) == [*releases, *points]


def test_pages_that_the_code_cites_are_there() -> None:
    sources = [*ROOT.glob("harness/**/*.py"), *ROOT.glob("guests/**/*.[ch]")]
    sources += ROOT.glob("testcases/**/*.py")
    for source in sources:
        for cited in re.findall(r"\bdocs/[\w/-]+\.md", source.read_text()):
            assert (ROOT / cited).is_file(), f"{source.relative_to(ROOT)}: {cited}"


def test_the_number_of_known_bad_flavours() -> None:
    readme = (ROOT / "README.md").read_text()
    (said,) = re.findall(r"`images/xen/4\.17/bad/` has (\d+) flavours", readme)
    assert int(said) == len(list((ROOT / "images/xen/4.17/bad").glob("*/entry.yaml")))
