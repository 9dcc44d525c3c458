# SPDX-License-Identifier: GPL-2.0-or-later
"""evtchn-harness bisect and compare: what is wrong is one clear error, before anything boots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import cache
from harness.bisect import report
from harness.bisect.confirm import Confirmation, Finding
from harness.bisect.observations import Observations
from harness.bisect.repository import Repository
from harness.bisect.search import Answer, Question
from harness.cli import main
from harness.cli.compare import document
from harness.compare.judge import judge
from harness.compare.variant import find_variant
from tests.bisect.xen_history import git
from tests.hypervisor.tree import make_tree

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tree = make_tree(tmp_path / "xen")
    git(tree, "init", "-q", "-b", "main")
    for number in range(3):
        (tree / "xen/main.c").write_text(f"int n{number};\n")
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", f"number {number}")
    return tree


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bisect", "--xen-git", "{tree}", "--good", "main~2"], "Missing option '--bad'"),
        (["--good", "main", "--bad", "main~2"], "--good: "),
        (["--old", "main", "--new", "main~2"], "--old: "),
        (["--old", "main~2"], "Missing option '--new'"),
        (["--old", "main~2", "--new", "nothing"], "--new: no commit nothing"),
        (["--old", "main~2", "--bad", "main"], "--old and --new exclude --good and --bad"),
        (["--good", "main~2", "--bad", "main", "--test", "boot", "--test", "x.py"], "alone"),
        (["--good", "nothing", "--bad", "main"], "--good: no commit nothing"),
        (["--good", "main~2", "--bad", "main", "--test", "nowhere.py"], "nowhere.py: no such test"),
        (["--good", "main~2", "--bad", "main", "--host", "h"], "h"),
        (["compare", "{tree}", "no-such"], "no flavour no-such"),
        (["compare", "{tree}@no-such", "{tree}"], "no commit no-such"),
        (["compare", "{tree}", "{tree}", "--rounds", "0"], "--rounds"),
    ],
)
def test_one_clear_error(
    tree: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    if words[0].startswith("--"):
        words = ["bisect", "--xen-git", str(tree), *words]
    words = [word.format(tree=tree) for word in words]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert says in err and err.startswith("error: ")
    assert len([text for text in err.splitlines() if text.startswith("error")]) == 1
    assert json.loads(out)["kind"] == "ConfigError"


def _documented(page: str) -> set[str]:
    table = (DOCS / page).read_text().split("## The JSON document", 1)[1].split("\n## ", 1)[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return {name.strip(" `") for cell in cells for name in cell.split(",")}


def test_the_documents_have_the_keys_that_are_documented(tree: Path) -> None:
    repository = Repository.open(str(tree))
    good, bad = repository.commit("main~2", "--good"), repository.commit("main", "--bad")
    found = Finding(Answer(bad, 0.97, ((bad, 0.97),), 1.0), Confirmation())
    told = report.document(
        Question(repository.between(good, bad)), Observations(), found, repository
    )
    assert set(told) | {"seconds", "path"} == _documented("bisect.md")
    begins = Question(repository.between(good, bad, mends=True))
    both_ways = Finding(found.answer, Confirmation(True, True, True))
    mended = report.document(begins, Observations(), both_ways, repository)
    assert set(mended) == set(told)
    assert (told["terms"], mended["terms"]) == (["good", "bad"], ["old", "new"])
    said = "\n".join(report.lines(mended))
    assert f"first new commit (97.0 % sure): {bad} number 2" in said
    assert "confirmed: passes there, fails before it and fails with it reverted" in said
    assert "first new commit" in report.git_log(begins, Observations(), both_ways, repository)
    both = find_variant(str(tree), "BASE"), find_variant(str(tree), "CANDIDATE")
    compared = document(both, judge([], margin=0.1), [])
    assert set(compared) | {"path", "outcomes"} == _documented("compare.md")
