# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds in child processes: what builds, what does not, and what goes on in the background."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import cache
from harness.arch import Arch
from harness.bisect.confirm import REVERT
from harness.bisect.processes import BuildProcesses, SourceTrees
from harness.bisect.repository import Repository
from harness.verdict import BuildError
from tests.bisect.xen_history import git
from tests.hypervisor.tree import make_tree

pytestmark = pytest.mark.slow

MAIN = "int main_{0}(void) {{ return {0}; }}\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    tree = make_tree(tmp_path / "xen")
    git(tree, "init", "-q", "-b", "main")
    return tree


def commit(tree: Path, text: str) -> str:
    (tree / "xen/main.c").write_text(text)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "x")
    return git(tree, "rev-parse", "HEAD")


@pytest.fixture
def builds(tree: Path) -> Iterator[BuildProcesses]:
    commit(tree, MAIN.format(0))
    made = BuildProcesses(SourceTrees(Repository.open(str(tree)), "main"), Arch.X86_64)
    yield made
    made.close()


def test_a_revision_is_built_once(tree: Path, builds: BuildProcesses) -> None:
    one, other = commit(tree, MAIN.format(1)), commit(tree, MAIN.format(2))
    first, again, different = builds.build(one), builds.build(one), builds.build(other)
    assert (first.revision, first.content) == (again.revision, again.content)
    assert again.seconds < first.seconds
    assert different.content != first.content


def test_a_revision_that_does_not_build_says_why(tree: Path, builds: BuildProcesses) -> None:
    broken = commit(tree, "int broken(void) { return oops; }\n")
    with pytest.raises(BuildError, match=r"xen/main\.c:1: .*oops"):
        builds.build(broken)
    with pytest.raises(BuildError, match="does not revert on top"):
        builds.build(REVERT + git(tree, "rev-list", "--max-parents=0", "main"))


def test_the_next_revisions_are_built_in_the_background(tree: Path, builds: BuildProcesses) -> None:
    revisions = [commit(tree, MAIN.format(n)) for n in range(1, 4)]
    broken = commit(tree, "int broken(void) { return oops; }\n")
    builds.build_ahead(iter([broken, *revisions[:2]]))
    shelf = cache.root() / "xen"
    deadline = time.monotonic() + 60
    while len(list(shelf.glob("[0-9a-f]*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert builds.build(revisions[0]).seconds < 1
    assert builds.build(revisions[1]).seconds < 1


def test_a_build_that_is_not_needed_any_more_is_stopped(tree: Path, builds: BuildProcesses) -> None:
    makefile = tree / "xen/Makefile"
    makefile.write_text(
        makefile.read_text().replace("\tcp xen-syms", "\tsleep 4711\n\tcp xen-syms")
    )
    slow = commit(tree, MAIN.format(1))
    builds.build_ahead([slow])
    deadline = time.monotonic() + 60
    while not sleepers():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    builds.close()
    psutil.wait_procs(sleepers(), timeout=10)
    assert sleepers() == []


def sleepers() -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline", "status"])
    return [
        process
        for process in found
        if process.info["cmdline"] == ["sleep", "4711"]
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
