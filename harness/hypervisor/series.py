# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches of the user's, as mails: a mailbox, a single mail, or files of ``git format-patch``.

They are applied to a tree as ``git am --3way`` does, by git itself, in a repository of ours that
borrows the objects of the user's.  That one is only read.  git also decodes what mail programs do
to a patch: quoted-printable, base64, format=flowed, line ends of DOS.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import bounded, command, git
from harness.hypervisor import source as sources
from harness.hypervisor.source import Patch, Source
from harness.scratch import scratch
from harness.verdict import ConfigError, LabError

_WHAT = "a mailbox, a mail as it was sent, or a file of git format-patch"
_QUIET = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "advice.detachedHead=false")
_CRLF = "--quoted-cr=strip"  # a patch in base64 or quoted-printable may have line ends of DOS

_LONGEST_SUBJECT = 500  # characters; what looks for a cover letter takes the cube of that
_LARGEST = 64 << 20  # bytes of a mailbox

# Mails that belong to a series, but bring no patch: "[PATCH 0/3]", and answers.
_COVER_LETTER = re.compile(r"\[[^\]]*\b0+/\d+[^\]]*\]")
_ANSWER = re.compile(r"(re|aw|antw|sv)(\[\d+\])?:", re.IGNORECASE)

_FAILED = re.compile(r"^error: patch failed: (.+):(\d+)$", re.MULTILINE)
_NO_BASE = re.compile(r"lacks necessary blobs|sha1 information is lacking", re.IGNORECASE)


@dataclass(frozen=True)
class Mail:
    """A mail with a patch."""

    file: Path  # as the user named it
    where: str  # that, and which mail of several it is
    subject: str
    content: bytes
    patch: bytes  # as git reads it: decoded


class DoesNotApply(ConfigError):
    """A patch does not apply to the tree: another commit may take it."""


def read(files: Sequence[Path]) -> tuple[Mail, ...]:
    """Return the mails with a patch in ``files``, in their order.

    In a file of several mails, cover letters and answers without a patch are left out.
    ConfigError if a file cannot be read, has no mail, or has another mail without a patch.
    """
    return tuple(mail for file in files for mail in _mails(file))


def apply(source: Source, mails: Sequence[Mail]) -> Source:
    """Return ``source`` with the patches of ``mails`` applied, one after the other.

    Without the user's git configuration, hooks and signature.  A tree that is no git, or has
    changes that are not committed, is copied into a repository first.  DoesNotApply names the
    mail, the file and the hunk.
    """
    if source.kind == "deb":
        raise ConfigError(
            f"Xen {source.version} is here as the distribution built it: there is no source "
            "to apply a patch to",
            where="--series",
            hint="give --xen-git and --xen-ref, --xen-src, or another --xen-release",
        )
    with scratch() as folder:
        ours = _Repository(folder)
        ours.check_out(source)
        done = []
        for mail in mails:
            ours.apply(mail, source.version)
            done.append(Patch(str(mail.file), mail.subject, ours.tree()))
        return sources.patched(source, ours.home, tuple(done))


def _mails(file: Path) -> list[Mail]:
    try:
        content = bounded.content(file.expanduser(), _LARGEST)
    except OSError as error:
        hint = f"give the files in it, each {_WHAT}" if file.is_dir() else f"give {_WHAT}"
        raise ConfigError(
            f"cannot read the series: {error.strerror}", where=str(file), hint=hint
        ) from error
    found = []
    with scratch() as folder:
        parts = _split(file, content, folder)
        several = len(parts) > 1
        for number, part in enumerate(parts, 1):
            where = f"{file}, mail {number} of {len(parts)}" if several else str(file)
            subject, patch = _look(part, folder)
            if patch and subject:
                found.append(Mail(file, where, subject, part, patch))
            elif patch or not (
                several and (_COVER_LETTER.search(subject) or _ANSWER.match(subject))
            ):
                raise _no_patch(where, subject, part)
    if not found:
        raise ConfigError(
            "no patch in it, only cover letters and answers", where=str(file), hint=f"give {_WHAT}"
        )
    return found


def _split(file: Path, content: bytes, folder: Path) -> list[bytes]:
    """Return the mails in ``content``; ConfigError if there is none."""
    if not content.strip():
        raise ConfigError("no mail in it: it is empty", where=str(file), hint=f"give {_WHAT}")
    place = folder / "mails"
    place.mkdir()
    # -b: a file that begins without "From " is a single mail.
    words = ["mailsplit", "-b", f"-o{place}"]
    try:
        git.run(*words, tree=folder, stdin=content.lstrip(b"\r\n"), env=git.undisturbed(folder))
    except command.CommandFailed as error:
        raise ConfigError(
            f"no mail in it: {git.said(error)}", where=str(file), hint=f"give {_WHAT}"
        ) from error
    return [path.read_bytes() for path in sorted(place.iterdir())]


def _look(mail: bytes, folder: Path) -> tuple[str, bytes]:
    """Return the subject of ``mail`` and its patch; both may be empty."""
    message, patch = folder / "message", folder / "patch"
    words: list[str | Path] = ["mailinfo", "-k", _CRLF, message, patch]
    try:
        said = git.run(*words, tree=folder, stdin=mail, env=git.undisturbed(folder))
    except command.CommandFailed:  # it is no mail, or a broken one
        return "", b""
    found = re.search(r"^Subject: (.*)$", said, re.MULTILINE)
    return found[1].strip()[:_LONGEST_SUBJECT] if found else "", patch.read_bytes()


def _no_patch(where: str, subject: str, mail: bytes) -> ConfigError:
    hint = "give the mail as it was sent (its source, not the page of an archive)"
    if subject:
        return ConfigError(f'the mail "{subject}" has no patch', where=where, hint=hint)
    if re.search(rb"^(diff --git |--- )", mail, re.MULTILINE):
        hint = "commit the change, and give the file that `git format-patch -1` writes"
        return ConfigError("a patch that is no mail: it has no subject", where=where, hint=hint)
    return ConfigError("no mail with a patch in it", where=where, hint=f"give {_WHAT}")


class _Repository:
    """A git repository of ours in which the patches are applied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree = folder / "tree"
        self.home = self._tree / ".git"
        self._env = git.undisturbed(folder)
        git.run("init", "-q", "--template=", self._tree, env=self._env)

    def check_out(self, source: Source) -> None:
        """Bring the tree of ``source`` here, as a commit."""
        clean = source.kind == "git"  # a directory may differ from its commit
        try:
            if clean and source.home is not None:
                self._borrow(source.home)
                self._git("checkout", "-q", "--detach", source.commit)
                return
            if (source.tree / ".git").exists():  # for the 3-way merge
                self._borrow(sources.git_dir(source.tree))
        except command.CommandFailed as error:
            if clean:
                raise LabError(
                    f"cannot check the commit out: {git.said(error)}", where=str(source.home)
                ) from error
        try:
            for path in sources.files(source.tree, (".",)):
                target = self._tree / path.relative_to(source.tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target, follow_symlinks=False)
        except OSError as error:
            where = str(error.filename or source.tree)
            raise LabError(f"cannot copy the tree: {error.strerror}", where=where) from error
        self._git("add", "--all", "--force")
        self._git("commit", "-q", "-m", source.version)

    def apply(self, mail: Mail, version: str) -> None:
        """Commit the patch of ``mail`` on top; DoesNotApply if git cannot merge it."""
        file = self._folder / "mail"
        file.write_bytes(mail.content)
        try:
            self._git("am", "-q", "--3way", _CRLF, "--patch-format=mbox", file)
        except command.CommandFailed as error:
            raise self._conflict(mail, version, error) from error

    def tree(self) -> str:
        """Return the id of the tree as it is now."""
        return self._git("rev-parse", "HEAD^{tree}").splitlines()[-1]

    def _borrow(self, home: Path) -> None:
        """Use the objects of the repository ``home`` (its .git), and of whom it borrows from."""
        where = ["rev-parse", "--path-format=absolute", "--git-path"]
        objects, shallow = (
            Path(git.run(*where, name, home=home).splitlines()[-1])
            for name in ("objects", "shallow")
        )
        (self.home / "objects/info").mkdir(parents=True, exist_ok=True)
        (self.home / "objects/info/alternates").write_text(f"{objects}\n")
        if shallow.is_file():
            shutil.copyfile(shallow, self.home / "shallow")

    def _conflict(self, mail: Mail, version: str, error: command.CommandFailed) -> DoesNotApply:
        """Return what is in the way of ``mail``: the file and the first hunk that does not fit."""
        unmerged = self._git("diff", "--name-only", "--diff-filter=U").splitlines()
        self._git("reset", "-q", "--hard")
        patch = _look(mail.content, self._folder)[1]
        try:
            self._git("apply", "--check", "-", stdin=patch)
            refused = error.output
        except command.CommandFailed as failed:
            refused = failed.output
        places = _FAILED.findall(refused)
        places = [place for place in places if place[0] in unmerged] or places
        if places:
            name, line = places[0]
            more = f" (and {len(places) - 1} more files)" if len(places) > 1 else ""
            why = f"conflict in {name}, hunk {_hunk(patch, name, line)}{more}"
        else:
            errors = re.findall(r"^(?:error|fatal): (.+)$", refused, re.MULTILINE)
            why = (errors or [git.said(error)])[0]
        hint = "rebase it, or give --xen-ref the commit that it was made for"
        if _NO_BASE.search(error.output):
            hint += " (not merged: the versions of the files that it was made from are not here)"
        return DoesNotApply(
            f'the patch "{mail.subject}" does not apply to Xen {version}: {why}',
            where=mail.where,
            hint=hint,
        )

    def _git(self, *words: str | Path, stdin: bytes | None = None) -> str:
        return git.run(*_QUIET, *words, tree=self._tree, env=self._env, stdin=stdin)


def _hunk(patch: bytes, name: str, line: str) -> str:
    """Return the head of the hunk of ``patch`` that begins at ``line`` of the old file ``name``."""
    file = ""
    for text in patch.decode(errors="replace").splitlines():
        if text.startswith("--- "):
            file = text[4:].partition("\t")[0].partition("/")[2]
        elif file == name and re.match(rf"@@ -{line}[, ]", text):
            return text.strip()
    return f"at line {line}"
