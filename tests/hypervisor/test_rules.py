# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rules hold in a tree: by its history, its version or its text, with real git."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness import cache
from harness.hypervisor import source as sources
from harness.hypervisor.rules import ANCHOR, Finding, FoundRules, find_rules
from harness.hypervisor.source import Source
from harness.model.evtchn.changed_rules import BY_RULE, TABLE, Commit, Rule
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version

from .tree import make_tree

POLL, STATUS = BY_RULE[Rule.POLL_REJECTS_UNUSABLE], BY_RULE[Rule.STATUS_HIDES_XEN_BOUND]
REJECTS, HIDES, SHOWS = POLL.commits[0], *STATUS.commits

CORE_C, EVENT_CHANNEL_C = "xen/common/sched/core.c", "xen/common/event_channel.c"
# Text of each side of two rules; the other files of a tree are not there and say nothing.
OLD_POLL = "    if ( !port_is_valid(d, port) )\n"
NEW_POLL = "    rc = evtchn_port_poll(d, port);\n"
OPEN_STATUS = "int evtchn_status(evtchn_status_t *status)\n{\n    rc = xsm_evtchn_status();\n}\n"
HIDING_STATUS = OPEN_STATUS.replace("rc =", "if ( consumer_is_xen(chn) )\n        rc =")


class Repository:
    """A tree in a repository, whose commits have the subjects and bodies of upstream's."""

    def __init__(self, tree: Path) -> None:
        self.tree = make_tree(tree)
        self.git("init", "-q", "-b", "main")
        self.write(CORE_C, OLD_POLL)
        self.write(EVENT_CHANNEL_C, OPEN_STATUS)

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", "-C", self.tree, *identity, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, subject: str, body: str = "") -> str:
        """Commit what was written, with a change to a file of event channels in any case."""
        path = self.tree / "xen/common/event_fifo.c"
        path.write_text((path.read_text() if path.exists() else "") + "/* more */\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"{subject}\n\n{body}")
        return self.git("rev-parse", "HEAD")

    def found(self) -> FoundRules:
        return find_rules(sources.from_git(str(self.tree), "HEAD"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "xen")
    made.write("xen/common/event_fifo.c", "    was_pending = test_and_set_bit(0, word);\n")
    made.commit(ANCHOR.subject)
    made.commit(BY_RULE[Rule.POLL_CHECKS_VALID].commits[0].subject)  # which OLD_POLL has
    return made


def finding(found: FoundRules, rule: Rule) -> Finding:
    (only,) = [each for each in found.findings if each.rule == rule]
    assert only.holds is found.rules.holds(rule)
    return only


def test_a_commit_that_is_not_in_the_history_means_that_the_rule_does_not_hold(
    upstream: Repository,
) -> None:
    head = upstream.commit("something else")
    found = upstream.found()
    seen = finding(found, POLL.rule)
    assert (seen.holds, seen.origin, seen.contradiction) == (False, "commit", "")
    assert seen.why == f"{REJECTS.sha} ({REJECTS.subject}) is not in the history of {head[:12]}"
    assert found.notes == ()
    never_ended = finding(found, Rule.FIFO_DROP_SETS_PENDING)  # and it always held before
    assert (never_ended.holds, never_ended.origin) == (True, "commit")


@pytest.mark.parametrize(
    ("subject", "body", "how"),
    [
        (REJECTS.subject, "", "which has its subject"),
        ("x", f"(cherry picked from commit {REJECTS.sha}6562667f8e9c898a548be633d77)", "cherry"),
        ("x", f"master commit: {REJECTS.sha}6562667f8e9c898a548be633d77", "cherry-picked"),
    ],
    ids=["subject", "cherry picked", "master commit"],
)
def test_a_backport_is_found(upstream: Repository, subject: str, body: str, how: str) -> None:
    upstream.write(CORE_C, NEW_POLL)
    sha = upstream.commit(subject, body)
    upstream.commit("something later")
    seen = finding(upstream.found(), POLL.rule)
    assert (seen.holds, seen.origin, seen.contradiction) == (True, "commit", "")
    assert f"{REJECTS.sha} " in seen.why and f"as {sha[:12]}, " in seen.why and how in seen.why


def test_the_commit_itself_is_found(upstream: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.write(CORE_C, NEW_POLL)
    sha = upstream.commit("another subject")
    ours = replace(POLL, begun=Commit(sha[:12], "its subject", Release(4, 15)))
    monkeypatch.setattr("harness.hypervisor.rules.TABLE", (ours,))
    (seen,) = upstream.found().findings
    assert (seen.holds, seen.origin) == (True, "commit")
    assert seen.why == f"{sha[:12]} (its subject) is in the history itself"


def test_a_commit_of_another_branch_does_not_count(upstream: Repository) -> None:
    upstream.git("checkout", "-q", "-b", "side")
    upstream.write(CORE_C, NEW_POLL)
    upstream.commit(REJECTS.subject)
    upstream.git("checkout", "-q", "main")
    assert not upstream.found().rules.holds(POLL.rule)
    assert find_rules(sources.from_git(str(upstream.tree), "side")).rules.holds(POLL.rule)


def test_a_rule_that_began_and_ended(upstream: Repository) -> None:
    upstream.write(EVENT_CHANNEL_C, HIDING_STATUS)
    hides = upstream.commit(HIDES.subject)
    seen = finding(upstream.found(), STATUS.rule)
    assert (seen.holds, seen.origin) == (True, "commit") and hides[:12] in seen.why

    upstream.write(EVENT_CHANNEL_C, OPEN_STATUS)
    upstream.commit(SHOWS.subject, f"This reverts commit {HIDES.sha}.")
    seen = finding(upstream.found(), STATUS.rule)
    assert (seen.holds, seen.origin) == (False, "commit") and SHOWS.sha in seen.why


def test_a_revert_of_the_users_own_counts_and_so_does_its_revert(upstream: Repository) -> None:
    upstream.write(CORE_C, NEW_POLL)
    sha = upstream.commit(REJECTS.subject)
    upstream.write(CORE_C, OLD_POLL)
    revert = upstream.commit("back again", f"This reverts commit {sha}.")
    seen = finding(upstream.found(), POLL.rule)
    assert (seen.holds, seen.origin, seen.contradiction) == (False, "commit", "")

    upstream.write(CORE_C, NEW_POLL)
    upstream.commit("and forth", f"This reverts commit {revert[:10]}.")
    seen = finding(upstream.found(), POLL.rule)
    assert (seen.holds, seen.origin, seen.contradiction) == (True, "commit", "")


def test_the_text_decides_against_the_history_and_it_is_told(upstream: Repository) -> None:
    upstream.commit(REJECTS.subject)  # says so, and changes nothing
    found = upstream.found()
    seen = finding(found, POLL.rule)
    assert (seen.holds, seen.origin) == (False, "text")
    assert seen.why == f"{CORE_C} shows that it does not hold"
    decides = "the text of the tree that is built decides"
    assert seen.contradiction.endswith(f", but {seen.why}: {decides}")
    assert [note for note in found.notes if note.startswith(f"rule {POLL.rule}: ")]


def test_uncommitted_changes_of_a_work_tree_count(upstream: Repository) -> None:
    before = find_rules(sources.from_dir(upstream.tree))
    assert finding(before, POLL.rule).origin == "commit"
    upstream.write(CORE_C, NEW_POLL)
    after = finding(find_rules(sources.from_dir(upstream.tree)), POLL.rule)
    assert (after.holds, after.origin) == (True, "text")
    assert "not in the history" in after.contradiction


def shallow(upstream: Repository, folder: Path, depth: int) -> sources.Source:
    """The newest commit of ``upstream``, in a clone that has the last ``depth`` ones."""
    words = ["git", "clone", "-q", f"--depth={depth}", f"file://{upstream.tree}"]
    subprocess.run([*words, folder / "clone"], check=True)
    return sources.from_git(str(folder / "clone"), "HEAD")


def test_a_shallow_clone_that_lacks_history_is_read_as_text(
    upstream: Repository, tmp_path: Path
) -> None:
    upstream.write(CORE_C, NEW_POLL)
    upstream.commit(REJECTS.subject)
    upstream.commit("something later")
    found = find_rules(shallow(upstream, tmp_path, depth=1))
    seen = finding(found, POLL.rule)
    assert (seen.holds, seen.origin, seen.contradiction) == (True, "text", "")
    (note,) = found.notes
    assert "is a shallow clone, which lacks history (git fetch --unshallow gets it): " in note
    assert "rules of the model are taken from the tree's text" in note and "\n" not in note


def test_what_a_short_history_has_counts(upstream: Repository, tmp_path: Path) -> None:
    upstream.write(CORE_C, NEW_POLL)
    upstream.commit(REJECTS.subject)
    upstream.commit("something later")
    found = find_rules(shallow(upstream, tmp_path, depth=2))
    assert finding(found, POLL.rule).origin == "commit"
    assert finding(found, STATUS.rule).origin == "text"


def test_a_history_that_is_not_upstreams_is_read_as_text(tmp_path: Path) -> None:
    vendor = Repository(tmp_path / "xen")
    vendor.write(CORE_C, NEW_POLL)
    vendor.commit("import of a tarball")
    found = vendor.found()
    assert finding(found, POLL.rule).origin == "text" and found.rules.holds(POLL.rule)
    (note,) = found.notes
    assert "is not upstream's as far back as 4.12" in note


def test_a_bare_tree_is_read_as_text(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    (tree / "xen/common").mkdir(exist_ok=True)
    (tree / "xen/common/schedule.c").write_text(NEW_POLL)  # as in 4.13 and before
    found = find_rules(sources.from_dir(tree))
    seen = finding(found, POLL.rule)
    assert (seen.holds, seen.origin) == (True, "text")
    assert seen.why == "xen/common/schedule.c shows that it holds"
    assert found.notes == ()
    # A file that is not there says nothing: then the number of the release does.
    other = finding(found, STATUS.rule)
    assert (other.holds, other.origin) == (True, "version")


@pytest.mark.parametrize(
    ("version", "release", "point"),
    [
        ("4.14.6-1", (4, 14), 6),
        ("4.14.0+80-gd101b417b7-1", (4, 14), 0),
        ("4.17.5+72-g01140da4e8-1", (4, 17), 5),
        ("4.20.4", (4, 20), 4),
        ("4.20", (4, 20), None),
    ],
)
def test_a_package_is_known_by_its_version(
    version: str, release: tuple[int, int], point: int | None, tmp_path: Path
) -> None:
    found = find_rules(Source("deb", tmp_path, version, release, version))
    assert found.rules == by_version(Release(*release), point)
    assert {each.origin for each in found.findings} == {"version"}
    assert [each.rule for each in found.findings] == [each.rule for each in TABLE]
    assert all(each.why.startswith(f"Xen {release[0]}.{release[1]}") for each in found.findings)


def test_the_text_of_a_package_decides_against_its_version(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    (tree / "xen/common/sched").mkdir(parents=True, exist_ok=True)
    (tree / CORE_C).write_text(OLD_POLL)
    seen = finding(find_rules(Source("apt", tree, "4.17.5-1", (4, 17), "d")), POLL.rule)
    assert (seen.holds, seen.origin) == (False, "text")
    assert seen.contradiction.startswith(f"Xen 4.17.5 has {REJECTS.sha} (")
