# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of changed rules against upstream's history.  SKIPs unless XEN_GIT names it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.hypervisor.rules import ANCHOR, find_rules
from harness.hypervisor.source import Source
from harness.model.evtchn.changed_rules import TABLE, ChangedRule, Commit
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version

XEN_GIT = "XEN_GIT"  # names a repository of upstream Xen

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        not Path(os.environ.get(XEN_GIT) or "/nonexistent").is_dir(),
        reason=f"{XEN_GIT} names no repository of upstream Xen",
    ),
]

_COMMITS = [commit for each in TABLE for commit in each.commits]
# The first and a late point release of each branch, and master.
_TREES = (
    *(f"RELEASE-4.{minor}.0" for minor in range(12, 23)),
    *("RELEASE-4.12.4", "RELEASE-4.13.1", "RELEASE-4.13.2", "RELEASE-4.13.5"),
    *("RELEASE-4.14.1", "RELEASE-4.14.6", "RELEASE-4.17.6", "RELEASE-4.17.7"),
    *("RELEASE-4.18.6", "RELEASE-4.19.6", "RELEASE-4.20.4", "RELEASE-4.21.1", "RELEASE-4.21.2"),
    "master",
)


def git(*words: str) -> str:
    home = Path(os.environ[XEN_GIT])
    done = subprocess.run(["git", "-C", home, *words], capture_output=True, text=True, check=True)
    return done.stdout


def file_at(revision: str, name: str) -> str | None:
    try:
        return git("show", f"{revision}:{name}")
    except subprocess.CalledProcessError:
        return None


def text_holds(each: ChangedRule, revision: str) -> bool:
    found = next(text for name in each.text.files if (text := file_at(revision, name)) is not None)
    return re.search(each.text.pattern, found) is not None


@pytest.mark.parametrize("commit", [ANCHOR, *_COMMITS], ids=lambda commit: commit.sha)
def test_a_commit_is_upstreams(commit: Commit) -> None:
    assert git("log", "-1", "--format=%s", commit.sha).strip() == commit.subject


@pytest.mark.parametrize("each", TABLE, ids=lambda each: each.rule)
def test_the_text_changes_with_the_commit(each: ChangedRule) -> None:
    if each.begun is not None:
        assert not text_holds(each, f"{each.begun.sha}^")
        assert text_holds(each, each.begun.sha)
    if each.ended is not None:
        assert text_holds(each, f"{each.ended.sha}^")
        assert not text_holds(each, each.ended.sha)


@pytest.mark.parametrize("revision", _TREES)
def test_history_text_and_version_say_the_same(revision: str, tmp_path: Path) -> None:
    """Of one tree: its commits, its text, and what the table says of its number."""
    commit = git("rev-parse", f"{revision}^{{commit}}").strip()
    for name in {name for each in TABLE for name in each.text.files}:
        if (text := file_at(commit, name)) is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    release, point = Release(4, 23), None
    if number := re.fullmatch(r"RELEASE-(\d+)\.(\d+)\.(\d+)", revision):
        release, point = Release(int(number[1]), int(number[2])), int(number[3])
    home = Path(git("rev-parse", "--absolute-git-dir").strip())
    source = Source(
        "git", tmp_path, revision, (release.major, release.minor), revision, home, commit
    )
    found = find_rules(source)
    assert found.notes == ()
    assert {each.origin for each in found.findings} == {"commit"}
    assert found.rules == by_version(release, point)


def test_a_tree_between_releases_is_told_by_its_commits() -> None:
    """The very commit before a rule began, and it: the same number, and other rules."""
    for each in TABLE:
        for commit in each.commits:
            rules = []
            for revision in (f"{commit.sha}^", commit.sha):
                full = git("rev-parse", revision).strip()
                home = Path(git("rev-parse", "--absolute-git-dir").strip())
                source = Source("git", Path("/nonexistent"), full, (4, 15), full, home, full)
                rules.append(find_rules(source).rules.held)
            changed = {rule.value for rule in rules[0] ^ rules[1]}
            assert each.rule in changed, commit
