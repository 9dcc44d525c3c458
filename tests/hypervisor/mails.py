# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches as mail programs send them, made by git and by Python's own mail package."""

from __future__ import annotations

from email.charset import BASE64, QP, Charset
from email.message import EmailMessage, Message
from email.mime.text import MIMEText
from pathlib import Path

from tests.bisect.xen_history import git

from .tree import make_tree

EVENT_CHANNEL = "xen/common/event_channel.c"
_FUNCTION = """\
long evtchn_{name}(void)
{{
    int port = {value};

    /* Größer als alles. */
    return port;
}}

"""


def source_text(**values: int) -> str:
    """A C file with functions that return those values; the names make the order."""
    return "".join(_FUNCTION.format(name=name, value=value) for name, value in values.items())


def commit(tree: Path, subject: str, name: str, text: str) -> str:
    """Commit ``text`` as file ``name`` and return the commit's id."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", subject)
    return git(tree, "rev-parse", "HEAD")


def make_repository(folder: Path) -> Path:
    """A Xen-like tree: ``base``, ``first`` and ``second`` on main; work tree at ``second``."""
    tree = make_tree(folder)
    git(tree, "init", "-q", "-b", "main")
    commit(tree, "base", EVENT_CHANNEL, source_text(send=1, close=2, unmask=3))
    git(tree, "tag", "base")
    commit(tree, "evtchn: send two", EVENT_CHANNEL, source_text(send=2, close=2, unmask=3))
    commit(tree, "evtchn: unmask four", EVENT_CHANNEL, source_text(send=2, close=2, unmask=4))
    return tree


def format_patch(tree: Path, *words: str) -> list[Path]:
    """The files that `git format-patch` writes for base..main."""
    out = tree.parent / "patches"
    said = git(tree, "format-patch", "-o", str(out), *words, "base..main")
    return [Path(line) for line in said.splitlines()]


def _body(patch: Path) -> tuple[str, str]:
    head, _, body = patch.read_text().partition("\n\n")
    subject = next(line for line in head.splitlines() if line.startswith("Subject: "))
    return subject.removeprefix("Subject: "), body


def as_mail(patch: Path, *, encoding: str, ends: str = "\n") -> bytes:
    """``patch`` as a mail in quoted-printable or base64, with such line ends inside."""
    subject, body = _body(patch)
    charset = Charset("utf-8")
    charset.body_encoding = {"quoted-printable": QP, "base64": BASE64}[encoding]
    return _headed(MIMEText(body.replace("\n", ends), _charset=charset), subject)  # type: ignore[arg-type]


def as_flowed(patch: Path) -> bytes:
    """``patch`` as Thunderbird sends it: format=flowed (RFC 3676), with a space before spaces and
    none at the end of a line."""
    subject, body = _body(patch)
    trimmed = (line if line == "-- " else line.rstrip(" ") for line in body.split("\n"))
    lines = (f" {line}" if line.startswith((" ", ">", "From ")) else line for line in trimmed)
    mail = EmailMessage()
    mail.set_content("\n".join(lines), cte="8bit")
    mail.set_param("format", "flowed")
    return _headed(mail, subject)


def as_attachment(patch: Path) -> bytes:
    """``patch`` as a part of its own, as some mail programs attach it."""
    subject, body = _body(patch)
    mail = EmailMessage()
    mail.set_content("See the attachment.\n")
    mail.add_attachment(body, subtype="x-patch", filename="a.patch", cte="base64")
    return _headed(mail, subject)


def _headed(mail: Message, subject: str) -> bytes:
    mail["Return-Path"] = "<lists@example.org>"
    mail["From"] = "Jürgen Müller <jm@example.org>"
    mail["Date"] = "Mon, 12 Oct 2020 11:27:40 +0200"
    mail["Subject"] = subject
    return mail.as_bytes()


def letter(subject: str, text: str = "Some words.\n") -> bytes:
    """A mail without a patch."""
    mail = EmailMessage()
    mail.set_content(text)
    return _headed(mail, subject)


def mailbox(*mails: bytes) -> bytes:
    """A mailbox (mbox) of ``mails``."""
    separator = b"From list@example.org Mon Oct 12 11:27:40 2020\n"
    return b"".join(
        separator
        + mail.removeprefix(mail.split(b"\n")[0] + b"\n" if mail.startswith(b"From ") else b"")
        + b"\n"
        for mail in mails
    )
