# SPDX-License-Identifier: GPL-2.0-or-later
"""Source trees: what is read, what the digest covers, what a person gets told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import cache
from harness.hypervisor import source
from harness.verdict import ConfigError

from .tree import make_tree


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "xen-tree")


def git(tree: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", tree, *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tree: Path) -> Path:
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "first")
    return tree


def test_a_directory_says_its_version_and_release(tree: Path) -> None:
    found = source.from_dir(tree)
    assert (found.kind, found.version, found.release) == ("dir", "4.17.9", (4, 17))


@pytest.mark.parametrize(
    ("extra", "era"),
    [
        (".0$(XEN_VENDORVERSION)", (4, 15)),
        (".3", (4, 15)),
        ("-unstable$(XEN_VENDORVERSION)", (4, 14)),
        (".0-rc2$(XEN_VENDORVERSION)", (4, 14)),
    ],
)
def test_a_tree_that_becomes_a_release_is_of_the_era_before(
    repository: Path, extra: str, era: tuple[int, int]
) -> None:
    (repository / "xen/Makefile").write_text(
        f"export XEN_VERSION = 4\nexport XEN_SUBVERSION = 15\nexport XEN_EXTRAVERSION ?= {extra}\n"
    )
    git(repository, "commit", "-qam", "version")
    for found in (source.from_dir(repository), source.from_git(str(repository), "main")):
        assert found.release == (4, 15)
        assert found.era == era


def test_the_digest_covers_what_is_built_and_nothing_else(tree: Path) -> None:
    before = source.from_dir(tree).digest
    (tree / "tools/libxl/unused.c").write_text("other")
    (tree / "xen/main.o").write_text("object")
    (tree / "xen/.config").write_text("CONFIG_MINE=y")
    assert source.from_dir(tree).digest == before
    (tree / "xen/main.c").write_text("int x;")
    assert source.from_dir(tree).digest != before


def test_a_git_work_tree_counts_as_it_is_now(repository: Path) -> None:
    before = source.from_dir(repository).digest
    (repository / ".gitignore").write_text("*.s\n")
    (repository / "xen/ignored.s").write_text("product")
    assert source.from_dir(repository).digest == before
    (repository / "xen/main.c").write_text("int uncommitted;")
    changed = source.from_dir(repository).digest
    assert changed != before
    (repository / "xen/new.c").write_text("int untracked;")
    assert source.from_dir(repository).digest not in (before, changed)
    (repository / "xen/new.c").unlink()
    (repository / "xen/main.c").unlink()
    assert source.from_dir(repository).digest not in (before, changed)


def test_a_commit_is_taken_and_the_work_tree_left_alone(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "xen/main.c").write_text("int second;")
    git(repository, "commit", "-qam", "second")
    (repository / "xen/main.c").write_text("int uncommitted;")
    state = git(repository, "status", "--porcelain"), git(repository, "branch", "-a")

    old, new = (
        source.from_git(str(repository), first[:10]),
        source.from_git(str(repository), "main"),
    )

    assert "evtchn_write_lock" in (old.tree / "xen/main.c").read_text()
    assert (new.tree / "xen/main.c").read_text() == "int second;"
    assert old.version == f"4.17.9 {first[:12]}"
    assert old.digest != new.digest
    assert not (old.tree / "stubdom").exists()
    assert (old.tree / "tools/libxl/unused.c").is_file()  # for dom0's toolstack
    assert not any("unused" in path.name for path in source.files(old.tree))
    assert (repository / "xen/main.c").read_text() == "int uncommitted;"
    assert (git(repository, "status", "--porcelain"), git(repository, "branch", "-a")) == state


@pytest.fixture
def bundle(repository: Path) -> Path:
    """What `git fetch` takes and is no directory, as an address is none."""
    made = repository.parent / "xen.bundle"
    git(repository, "bundle", "create", "-q", str(made), "main")
    return made


def test_a_repository_may_be_what_git_fetches_from(repository: Path, bundle: Path) -> None:
    found = source.from_git(str(bundle), "main")
    assert found.digest == source.from_git(str(repository), "main").digest


def test_a_commit_and_a_directory_of_the_same_content_are_the_same_source(
    repository: Path,
) -> None:
    assert source.from_git(str(repository), "HEAD").digest == source.from_dir(repository).digest


@pytest.mark.parametrize(
    ("repo", "ref", "says"),
    [
        ("{tree}", "no-such-branch", "no commit no-such-branch"),
        ("{bundle}", "no-such-branch", "no commit no-such-branch"),
        ("{tree}/nowhere", "main", "no commit main"),
        ("{tree}/xen", "main", None),  # a folder inside the work tree will do
    ],
)
def test_a_wrong_repository_or_commit(
    repository: Path, bundle: Path, repo: str, ref: str, says: str | None
) -> None:
    repo = repo.format(tree=repository, bundle=bundle)
    if says is None:
        assert source.from_git(repo, ref).release == (4, 17)
        return
    with pytest.raises(ConfigError, match=says) as error:
        source.from_git(repo, ref)
    assert "\n" not in str(error.value)


def test_no_xen_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a Xen source tree: xen/Makefile: No such file"):
        source.from_dir(tmp_path)
    (tmp_path / "xen").mkdir()
    (tmp_path / "xen/Makefile").write_text("all:\n")
    with pytest.raises(ConfigError, match="gives no XEN_VERSION"):
        source.from_dir(tmp_path)
