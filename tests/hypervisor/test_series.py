# SPDX-License-Identifier: GPL-2.0-or-later
"""Series of mails: what is read, what is applied, what a person gets told; with git itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cache
from harness.hypervisor import series, source
from harness.verdict import ConfigError
from tests.bisect.xen_history import git

from . import mails
from .mails import EVENT_CHANNEL, format_patch, mailbox, source_text


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return mails.make_repository(tmp_path / "xen-tree")


def state(tree: Path) -> tuple[str, ...]:
    """Everything in a repository that git could change."""
    files = sorted(str(path) for path in (tree / ".git").rglob("*"))
    return (git(tree, "status", "--porcelain"), git(tree, "show-ref"), *files)


def applied(tree: Path, *files: Path, ref: str = "base") -> source.Source:
    return series.apply(source.from_git(str(tree), ref), series.read(files))


def write(tmp_path: Path, content: bytes, name: str = "mail.eml") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def text(found: source.Source) -> str:
    return (found.tree / EVENT_CHANNEL).read_text()


def test_files_of_format_patch_are_applied_in_order(repository: Path) -> None:
    files = format_patch(repository)
    before = state(repository)
    found = applied(repository, *files)
    assert text(found) == source_text(send=2, close=2, unmask=4)
    assert [(patch.file, patch.subject) for patch in found.series] == [
        (str(files[0]), "[PATCH 1/2] evtchn: send two"),
        (str(files[1]), "[PATCH 2/2] evtchn: unmask four"),
    ]
    assert found.series[-1].tree == git(repository, "rev-parse", "main^{tree}")
    commit = git(repository, "rev-parse", "base")
    assert (found.kind, found.version) == ("git", f"4.17.9 {commit[:12]} + 2 patches")
    assert (found.home, found.commit) == (repository / ".git", commit)
    assert state(repository) == before


def test_the_same_content_is_the_same_source_however_it_was_made(
    repository: Path, tmp_path: Path
) -> None:
    files = format_patch(repository)
    box = write(tmp_path, mailbox(*(file.read_bytes() for file in files)), "series.mbox")
    found = applied(repository, box)
    assert found.tree == applied(repository, *files).tree
    assert found.digest == source.from_git(str(repository), "main").digest


def _of(encoding: str, ends: str = "\n") -> Callable[[Path], bytes]:
    return lambda patch: mails.as_mail(patch, encoding=encoding, ends=ends)


@pytest.mark.parametrize(
    "sent",
    [
        _of("quoted-printable"),
        _of("base64"),
        _of("base64", "\r\n"),
        _of("quoted-printable", "\r\n"),
        lambda patch: patch.read_bytes().replace(b"\n", b"\r\n"),
        lambda patch: b"\r\n" + patch.read_bytes().replace(b"\n", b"\r\n"),
        mails.as_flowed,
        mails.as_attachment,
    ],
    ids=["qp", "base64", "base64-crlf", "qp-crlf", "crlf", "blank-line", "flowed", "attachment"],
)
def test_what_mail_programs_do_to_a_patch(
    repository: Path, tmp_path: Path, sent: Callable[[Path], bytes]
) -> None:
    file = write(tmp_path, sent(format_patch(repository)[0]))
    found = applied(repository, file)
    assert text(found) == source_text(send=2, close=2, unmask=3)
    assert found.series[0].subject == "[PATCH 1/2] evtchn: send two"


def test_cover_letters_and_answers_of_a_thread_are_left_out(
    repository: Path, tmp_path: Path
) -> None:
    first, second = (file.read_bytes() for file in format_patch(repository))
    thread = [
        mails.letter("[PATCH v3 00/02] evtchn: numbers"),
        first,
        mails.letter("Re: [PATCH 1/2] evtchn: send two", "> +    int port = 2;\nWhy?\n"),
        second,
    ]
    found = applied(repository, write(tmp_path, mailbox(*thread), "thread.mbox"))
    assert len(found.series) == 2


def test_a_patch_that_was_lost_is_not_left_out(repository: Path, tmp_path: Path) -> None:
    first, _ = (file.read_bytes() for file in format_patch(repository))
    box = mailbox(first, mails.letter("[PATCH 2/2] evtchn: unmask four"))
    with pytest.raises(ConfigError, match=r"mail 2 of 2: the mail .*unmask four. has no patch"):
        series.read([write(tmp_path, box, "series.mbox")])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no mail in it: it is empty"),
        (b" \n\n", "no mail in it: it is empty"),
        (
            mails.letter("[PATCH] evtchn: nothing"),
            'the mail "[PATCH] evtchn: nothing" has no patch',
        ),
        (mails.letter("[PATCH 0/2] numbers"), 'the mail "[PATCH 0/2] numbers" has no patch'),
        (
            mailbox(mails.letter("[PATCH 0/2] numbers"), mails.letter("Re: [PATCH 0/2] numbers")),
            "no patch in it, only cover letters and answers",
        ),
        (b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "is no mail"),
        (b"<html><body>[PATCH]</body></html>\n", "no mail with a patch in it"),
        (b"\x1f\x8b\x08\x00\x00\xff", "no mail with a patch in it"),
    ],
)
def test_what_has_no_patch_is_said_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        series.read([file])
    assert says in caught.value.what
    assert caught.value.where == str(file) and caught.value.hint
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(("name", "says"), [("nowhere.eml", "No such file"), (".", "Is a dir")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read the series: {says}") as caught:
        series.read([tmp_path / name])
    assert "\n" not in str(caught.value) and caught.value.hint


def test_a_tree_that_has_moved_on_is_merged(repository: Path) -> None:
    """The lines around the change are others by now: `git am` alone would refuse the patch."""
    files = format_patch(repository)
    git(repository, "checkout", "-q", "base")
    moved = source_text(send=1, close=7, unmask=3).replace(
        "    return port;", "    return +port;", 1
    )
    mails.commit(repository, "moved", EVENT_CHANNEL, moved)
    found = applied(repository, files[0], ref="HEAD")
    assert text(found) == moved.replace("int port = 1;", "int port = 2;")


def test_a_conflict_is_told_with_subject_file_and_hunk(repository: Path, tmp_path: Path) -> None:
    files = format_patch(repository)
    git(repository, "checkout", "-q", "base")
    mails.commit(repository, "other", EVENT_CHANNEL, source_text(send=1, close=2, unmask=9))
    before = state(repository)
    box = write(tmp_path, mailbox(*(file.read_bytes() for file in files)), "series.mbox")
    for given in (files, [box]):
        with pytest.raises(series.DoesNotApply) as caught:
            applied(repository, *given, ref="HEAD")
        said = str(caught.value)
        assert '"[PATCH 2/2] evtchn: unmask four" does not apply to Xen 4.17.9' in said
        assert (
            f"conflict in {EVENT_CHANNEL}, hunk @@ -16,7 +16,7 @@ long evtchn_close(void)" in said
        )
        assert "\n" not in said and caught.value.exit_code == 2 and caught.value.hint
    assert caught.value.where == f"{box}, mail 2 of 2"
    assert state(repository) == before


def test_a_file_that_is_not_there_is_told(repository: Path) -> None:
    files = format_patch(repository)
    git(repository, "checkout", "-q", "base")
    git(repository, "rm", "-q", EVENT_CHANNEL)
    git(repository, "commit", "-q", "-m", "gone")
    with pytest.raises(series.DoesNotApply, match=rf"{EVENT_CHANNEL}: No such file"):
        applied(repository, files[0], ref="HEAD")


def test_nobodys_configuration_plays_a_part(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("applypatch-msg", "pre-applypatch", "post-applypatch", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
        (hooks / name).chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f"[commit]\n gpgSign = true\n[gpg]\n program = false\n[core]\n hooksPath = {hooks}\n"
        f"[init]\n templateDir = {hooks.parent}\n[am]\n keepcr = true\n"
        "[mailinfo]\n scissors = true\n"
    )
    files = format_patch(repository)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "commit.gpgSign")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
    assert len(applied(repository, *files).series) == 2
    assert not mark.exists()


@pytest.mark.parametrize("is_git", [False, True])
def test_a_directory_counts_as_it_is_now(repository: Path, tmp_path: Path, is_git: bool) -> None:
    files = format_patch(repository)
    git(repository, "checkout", "-q", "base")
    (repository / "xen/new.c").write_text("int untracked;\n")
    (repository / "xen/main.c").write_text("int uncommitted;\n")
    if not is_git:
        (repository / ".git").rename(tmp_path / "elsewhere")
    found = series.apply(source.from_dir(repository), series.read(files))
    assert text(found) == source_text(send=2, close=2, unmask=4)
    assert (found.tree / "xen/main.c").read_text() == "int uncommitted;\n"
    assert (found.tree / "xen/new.c").exists()
    assert (found.kind, found.version) == ("dir", "4.17.9 + 2 patches")
    assert text(source.from_dir(repository)) == source_text(send=1, close=2, unmask=3)


def test_a_patch_may_touch_what_no_build_reads(repository: Path, tmp_path: Path) -> None:
    mails.commit(repository, "docs", "docs/evtchn.md", "words\n")
    found = applied(repository, *format_patch(repository))
    assert len(found.series) == 3
    assert found.digest == source.from_git(str(repository), "main~1").digest


def test_a_shallow_clone_will_do(repository: Path, tmp_path: Path) -> None:
    files = format_patch(repository)
    git(repository, "checkout", "-q", "base")
    mails.commit(repository, "on top", "xen/c.c", "int c;\n")
    found = applied(f"file://{repository}", *files, ref="HEAD")  # type: ignore[arg-type]
    assert len(found.series) == 2
    clone = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", str(clone))
    assert applied(clone, *files, ref="HEAD").tree == found.tree


def test_the_distributions_own_build_has_no_source(tmp_path: Path, repository: Path) -> None:
    ready = source.Source("deb", tmp_path, "4.20.4", (4, 20), "")
    with pytest.raises(ConfigError, match=r"--series: Xen 4\.20\.4 is here as the distribution"):
        series.apply(ready, series.read(format_patch(repository)))


def test_a_damaged_patch_is_told(repository: Path, tmp_path: Path) -> None:
    broken = re.sub("^@@ -1,.", "@@ -1,9", format_patch(repository)[0].read_text(), flags=re.M)
    with pytest.raises(series.DoesNotApply, match="corrupt patch at line"):
        applied(repository, write(tmp_path, broken.encode()))
