# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the model's changed rules hold in a tree: by its history, its version, or its text.

- A git tree: the commit that changed a rule, or a backport of it, is looked for in the history.
- A distribution's package: the version says it.
- A bare tree, or a history that does not reach back (a shallow clone): the text says it.

The text of the tree that is built is read in any case.  Where it contradicts the history or the
version, it decides, and the contradiction is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from harness import command, git
from harness.hypervisor.source import Source
from harness.model.evtchn.changed_rules import TABLE, ChangedRule, Commit, Rule, Text
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import Rules
from harness.verdict import LabError

Origin = Literal["commit", "version", "text"]

# In every tree from 4.12 on, and older than every commit of the table (February 2019).  A history
# without it does not reach back far enough to say that a commit is not there.
ANCHOR = Commit("443d3ab6daee", "evtchn: block speculative out-of-bound accesses", Release(4, 12))

# What the commits of the table and the anchor touch.
_FILES = (
    "xen/common/Kconfig",
    "xen/common/event_channel.c",
    "xen/common/event_fifo.c",
    "xen/common/sched/core.c",
    "xen/common/schedule.c",
    "xen/include/xen/event.h",
)
_BACKPORT = re.compile(
    r"^\(?(?:cherry[- ]picked from(?: commit)?|master commit:) *([0-9a-f]{7,40})",
    re.MULTILINE | re.IGNORECASE,
)
_REVERT = re.compile(r"^This reverts commit ([0-9a-f]{7,40})", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """Whether one rule holds, and what decided it."""

    rule: str
    holds: bool
    origin: Origin
    why: str  # one line
    contradiction: str = ""  # one line: what the history or the version says, and the text does not

    @property
    def told(self) -> str:
        """The reason, or the contradiction that there is."""
        return self.contradiction or self.why


@dataclass(frozen=True)
class FoundRules:
    """The rules of one tree: for the model, and for people."""

    rules: Rules
    findings: tuple[Finding, ...]  # in the order of the model's table
    notes: tuple[str, ...] = ()  # a line each: what could not be asked, what contradicts

    def holds(self, rule: Rule) -> bool:
        """Say whether ``rule`` holds."""
        return self.rules.holds(rule)


@dataclass(frozen=True)
class _Entry:
    """A commit of a tree's history."""

    sha: str
    subject: str
    body: str


@dataclass(frozen=True)
class _History:
    """What a tree's history says about the commits that the model knows."""

    found: dict[Commit, str]  # one line: as what the commit is there
    whole: bool  # it reaches back to the anchor
    why_not: str = ""  # one line: why it is not whole


@dataclass(frozen=True)
class _Claim:
    holds: bool
    origin: Origin
    why: str


def find_rules(source: Source) -> FoundRules:
    """Return the rules that hold in ``source``."""
    return _find(source, source.home)


@cache
def _find(source: Source, _home: Path | None) -> FoundRules:
    """``_home`` is a key: sources compare without it, and another clone may lack history."""
    history = _history(source)
    findings = tuple(_finding(each, source, history) for each in TABLE)
    held = frozenset(each.rule for each, found in zip(TABLE, findings, strict=True) if found.holds)
    return FoundRules(
        Rules(Release(*source.release), held), findings, tuple(_notes(history, findings))
    )


def _finding(each: ChangedRule, source: Source, history: _History | None) -> Finding:
    told = _by_history(each, source, history) if history else _by_version(each, source)
    text = _by_text(each.text, source)
    if told is None:
        told = text or _by_version(each, source, always=True)
        assert told is not None
        return Finding(each.rule, told.holds, told.origin, told.why)
    if text is None or text.holds == told.holds:
        return Finding(each.rule, told.holds, told.origin, told.why)
    return Finding(
        each.rule,
        text.holds,
        "text",
        text.why,
        f"{told.why}, but {text.why}: the text of the tree that is built decides",
    )


def _notes(history: _History | None, findings: tuple[Finding, ...]) -> Iterator[str]:
    if history is not None and not history.whole:
        read = sum(found.origin == "text" for found in findings)
        yield f"{history.why_not}: {read} rules of the model are taken from the tree's text"
    for found in findings:
        if found.contradiction:
            yield f"rule {found.rule}: {found.contradiction}"


# -- git ---------------------------------------------------------------------------------------


def _by_history(each: ChangedRule, source: Source, history: _History) -> _Claim | None:
    """Return what ``history`` says of a rule; None if it does not reach back and says nothing."""
    begun, ended = each.begun, each.ended
    if ended is not None and ended in history.found:
        return _Claim(False, "commit", history.found[ended])
    if begun is not None and begun in history.found and (ended is None or history.whole):
        return _Claim(True, "commit", history.found[begun])
    if not history.whole:
        return None
    lacks = begun or ended
    assert lacks is not None
    return _Claim(
        begun is None,
        "commit",
        f"{_named(lacks)} is not in the history of {source.commit[:12]}",
    )


def _history(source: Source) -> _History | None:
    """Return what the history of ``source`` says; None if it is not from a repository."""
    if source.home is None:
        return None
    there = f"{source.home} at {source.commit[:12]}"
    try:
        # A backport that the user applies has the subject of the commit that it is of.
        series = [_Entry(patch.tree, patch.subject, "") for patch in reversed(source.series)]
        entries = [*series, *_log(source.home, source.commit)]
        shallow = git.run("rev-parse", "--is-shallow-repository", home=source.home)
    except LabError as error:
        said = git.said(error) if isinstance(error, command.CommandFailed) else str(error)
        return _History({}, False, f"no history of {there} ({said})")
    found = _effective(entries)
    if ANCHOR in found:
        return _History(found, True)
    if shallow.strip() == "true":
        return _History(
            found,
            False,
            f"{there} is a shallow clone, which lacks history (git fetch --unshallow gets it)",
        )
    return _History(found, False, f"the history of {there} is not upstream's as far back as 4.12")


def _log(home: Path, commit: str) -> Iterator[_Entry]:
    """Yield the commits below ``commit`` that touch the files concerned, the newest first."""
    form = "--format=%H%x00%s%x00%b%x01"
    said = git.run("log", form, git.END, commit, "--", *_FILES, home=home)
    for part in said.split("\x01"):
        if part.strip():
            sha, subject, body = part.strip().split("\0", 2)
            yield _Entry(sha, subject, body)


def _effective(entries: list[_Entry]) -> dict[Commit, str]:
    """Return the commits of the table that are in effect: there, and not reverted since."""
    wanted = [ANCHOR, *(commit for each in TABLE for commit in each.commits)]
    found: dict[Commit, str] = {}
    reverted: list[str] = []  # ids, which may be short
    for entry in entries:
        if any(_same(entry.sha, sha) for sha in reverted):
            continue
        reverted += _REVERT.findall(entry.body)
        for commit in wanted:
            how = _as_what(commit, entry)
            undone = any(_same(sha, commit.sha) for sha in reverted)
            if how and commit not in found and not undone:
                found[commit] = f"{_named(commit)} is in the history{how}"
    return found


def _as_what(commit: Commit, entry: _Entry) -> str:
    """Say as what ``entry`` is ``commit``: "" if it is not, else words that begin with a space."""
    if _same(entry.sha, commit.sha):
        return " itself"
    short = entry.sha[:12]
    if any(_same(sha, commit.sha) for sha in _BACKPORT.findall(entry.body)):
        return f" as {short}, which says that it was cherry-picked from it"
    if entry.subject == commit.subject:
        return f" as {short}, which has its subject"
    return ""


def _same(one: str, other: str) -> bool:
    """Say whether two ids, of which each may be short, name the same commit."""
    return one.startswith(other) or other.startswith(one)


def _named(commit: Commit) -> str:
    return f"{commit.sha} ({commit.subject})"


# -- version -----------------------------------------------------------------------------------


def _by_version(each: ChangedRule, source: Source, *, always: bool = False) -> _Claim | None:
    """Return what the version of a package says of a rule; None if ``source`` is no package."""
    if source.kind not in ("apt", "deb") and not always:
        return None
    release, point = Release(*source.release), _point(source)
    number = f"{release}" if point is None else f"{release}.{point}"
    for commit in (each.ended, each.begun):
        if commit is not None and commit.in_version(release, point):
            return _Claim(commit is each.begun, "version", f"Xen {number} has {_named(commit)}")
    lacks = each.begun or each.ended
    assert lacks is not None
    return _Claim(each.begun is None, "version", f"Xen {number} is older than {_named(lacks)}")


def _point(source: Source) -> int | None:
    """Return the point release: 6 for 4.14.6-1; None if the version has none."""
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)\.(\d+)", source.version)
    return int(found[3]) if found and (int(found[1]), int(found[2])) == source.release else None


# -- text --------------------------------------------------------------------------------------


def _by_text(text: Text, source: Source) -> _Claim | None:
    """Return what the text of the tree says of a rule; None if it has none of the files."""
    for name in text.files:
        try:
            content = (source.tree / name).read_text(errors="replace")
        except OSError:
            continue
        if re.search(text.pattern, content):
            return _Claim(True, "text", f"{name} shows that it holds")
        return _Claim(False, "text", f"{name} shows that it does not hold")
    return None
