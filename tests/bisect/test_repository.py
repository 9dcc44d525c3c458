# SPDX-License-Identifier: GPL-2.0-or-later
"""With real git: the commits between two ends, the replay of our log, and reverted commits."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest

from harness import cache
from harness.bisect import loop, report
from harness.bisect.confirm import REVERT, Finding
from harness.bisect.observations import Observations
from harness.bisect.processes import SourceTrees
from harness.bisect.repository import Repository
from harness.bisect.search import Question
from harness.bisect.simulate import SimulatedHistory
from harness.config.options import XenOptions
from harness.run.plan import open_hypervisor
from harness.verdict import BuildError, ConfigError
from tests.bisect.xen_history import git
from tests.hypervisor.mails import commit
from tests.hypervisor.tree import make_tree


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """first - side branch and main branch - merge - documentation - last."""
    tree = make_tree(tmp_path / "xen-tree")
    git(tree, "init", "-q", "-b", "main")
    commit(tree, "first", "xen/a.c", "int a;\n")
    git(tree, "checkout", "-q", "-b", "side")
    commit(tree, "side", "xen/side.c", "int side;\n")
    git(tree, "checkout", "-q", "main")
    commit(tree, "second", "xen/a.c", "int a, b;\n")
    git(tree, "merge", "-q", "--no-ff", "-m", "merge", "side")
    commit(tree, "documentation", "docs/x", "words")
    commit(tree, "last", "xen/c.c", "int c;\n")
    return tree


def test_the_commits_are_git_s(tree: Path) -> None:
    repository = Repository.open(str(tree))
    first, last = (repository.commit(ref, "--x") for ref in ("main~4", "main"))
    commits = repository.between(first, last)
    assert set(commits.ids) == set(git(tree, "rev-list", f"{first}..{last}").split())
    assert commits.bad == last
    names = {name: repository.subject(name) for name in commits.ids}
    merge = next(name for name, subject in names.items() if subject == "merge")
    side = next(name for name, subject in names.items() if subject == "side")
    second = next(name for name, subject in names.items() if subject == "second")
    inside = commits.contains[commits.row_of[merge]]
    assert inside[commits.row_of[side]] and inside[commits.row_of[second]]
    assert not commits.contains[commits.row_of[second], commits.row_of[side]]
    assert {names[name] for name in commits.inert} == {"documentation"}


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("nothing", "main", "--good: no commit nothing"),
        ("main~1", "nothing", "--bad: no commit nothing"),
        ("main", "main~1", "exchange the two"),
        ("main", "main", "exchange the two"),
        ("main~3", "side", "try --good"),
    ],
)
def test_wrong_ends_are_refused(tree: Path, good: str, bad: str, says: str) -> None:
    repository = Repository.open(str(tree))
    with pytest.raises(ConfigError) as caught:
        repository.between(repository.commit(good, "--good"), repository.commit(bad, "--bad"))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no git repository"):
        Repository.open(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no git repository"):
        Repository.open(str(tmp_path))


def test_a_repository_may_be_what_git_fetches_from(tree: Path) -> None:
    bundle = tree.parent / "xen.bundle"
    git(tree, "bundle", "create", "-q", str(bundle), "--all")
    far, near = Repository.open(str(bundle)), Repository.open(str(tree))
    first, last = near.commit("main~4", "--x"), near.commit("main", "--x")
    assert far.between(first, last) == near.between(first, last)
    assert far.commit("main", "--x") == last


def test_a_commit_is_reverted_in_a_clone(tree: Path, tmp_path: Path) -> None:
    repository = Repository.open(str(tree))
    merge, top = repository.commit("main~2", "--x"), repository.commit("main", "--x")
    state = git(tree, "status", "--porcelain"), git(tree, "rev-parse", "HEAD", "--all")
    found = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(repository.reverted(merge, top, folder))
    assert not (found[0].tree / "xen/side.c").exists() and (found[0].tree / "xen/c.c").exists()
    assert found[0] == found[1]  # the same commit id: what was built for the first one serves
    assert (
        git(tree, "status", "--porcelain"),
        git(tree, "rev-parse", "HEAD", "--all"),
    ) == state


def test_a_commit_that_does_not_revert_is_a_build_error(tree: Path) -> None:
    repository = Repository.open(str(tree))
    culprit = repository.commit("main~3", "--x")  # "second"; changed again on top
    commit(tree, "third", "xen/a.c", "int a, b, c;\n")
    top = repository.commit("main", "--x")
    with pytest.raises(BuildError, match=r"does not revert on top: .*xen/a\.c"):
        SourceTrees(repository, top).options(REVERT + culprit)


def test_each_revision_is_built_as_it_stands(tree: Path) -> None:
    repository = Repository.open(str(tree))
    sched = tree / "xen/include/xen/sched.h"
    commit(tree, "rework", str(sched.relative_to(tree)), "struct evtchn\n{\n    atomic_t lock;\n};")
    git(tree, "rm", "-q", "xen/Makefile")
    git(tree, "commit", "-q", "-m", "no Xen any more")
    trees = SourceTrees(repository, repository.commit("main", "--x"))
    before, after, gone = (repository.commit(ref, "--x") for ref in ("main~2", "main~1", "main"))
    assert open_hypervisor(trees.options(before)).flavour.name == "rwlock"
    assert trees.options(after) == XenOptions(xen_git=str(tree / ".git"), xen_ref=after)
    assert open_hypervisor(trees.options(after)).flavour.name == "counter"
    with pytest.raises(BuildError, match="not a Xen source tree"):
        trees.options(gone)


def test_each_revision_gets_the_series(tree: Path, tmp_path: Path) -> None:
    commit(tree, "the patch", "xen/patch.c", "int patch;\n")
    (mail,) = (
        Path(line) for line in git(tree, "format-patch", "-1", "-o", str(tmp_path)).splitlines()
    )
    repository = Repository.open(str(tree))
    old, new = repository.commit("main~2", "--x"), repository.commit("main~1", "--x")
    commit(tree, "in its way", "xen/patch.c", "int other;\n")
    trees = SourceTrees(repository, new, (mail,), "spinlock")
    for revision in (old, new, REVERT + old):
        found = open_hypervisor(trees.options(revision))
        assert (found.source.tree / "xen/patch.c").read_text() == "int patch;\n"
        assert found.flavour.design == "spinlock"
    with pytest.raises(BuildError, match=r"the patch. does not apply"):
        trees.options(repository.commit("main", "--x"))


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_git_replays_our_log_to_the_same_commit(tmp_path: Path, rate: float) -> None:
    tree = make_tree(tmp_path / "long")
    git(tree, "init", "-q", "-b", "main")
    ids = [commit(tree, f"number {n}", "xen/n.c", f"int n{n};\n") for n in range(20)]
    repository = Repository.open(str(tree))
    commits = repository.between(ids[0], ids[-1])
    lab = SimulatedHistory(commits, ids[11], rate, Random(3), broken=frozenset({ids[8], ids[14]}))
    question = Question(commits)
    found, observations = loop.run(question, Observations(), lab, lab, record=lambda event: None)
    assert isinstance(found, Finding) and found.answer.culprit == ids[11]
    log = tmp_path / "bisect.log"
    log.write_text(report.git_log(question, observations, found, repository))
    git(tree, "bisect", "start")
    said = subprocess.run(
        ["git", "-C", tree, "bisect", "replay", log], capture_output=True, text=True, check=True
    )
    assert f"{ids[11]} is the first bad commit" in said.stdout
    told = report.document(question, observations, found, repository)
    assert told["culprit"] == ids[11] and told["subject"] == "number 11"
    assert told["confirmed"] is True
    assert told["boots"] == lab.boots and told["tries"] == lab.tries
    assert {one["commit"] for one in told["skipped"]} <= {ids[8], ids[14]}
    lines = list(report.lines(told))
    assert lines[0].startswith("first bad commit (") and lines[1].startswith("confirmed: ")
