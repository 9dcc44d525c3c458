# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that calls git.

Revisions, addresses and names come from users, plans and files.  None of them reaches git as an
option: a value that begins with "-" is refused here, and ``--end-of-options`` stands before
values where git's command knows it.  A repository is fetched only by the transports listed here:
"ext::" would run any program.  The configuration that a repository brings along (a tree out of an
archive may have one) runs no program either: no hook, no monitor, no filter, no signature check.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness import command
from harness.verdict import ConfigError

END = "--end-of-options"  # git 2.24 and later
_TRANSPORTS = ("file", "git", "http", "https", "ssh")
# Set by whoever started us (a git hook, for one), they would name another repository.
_OF_ANOTHER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
_ENVIRONMENT: dict[str, str | None] = {
    **dict.fromkeys(_OF_ANOTHER),
    "GIT_ALLOW_PROTOCOL": ":".join(_TRANSPORTS),
    "GIT_TERMINAL_PROMPT": "0",  # a password that nobody can type is an error at once
}
# What a repository's own configuration could have git run for the commands that we use.
_HARMLESS = tuple(
    word
    for setting in (
        "core.fsmonitor=false",
        f"core.hooksPath={os.devnull}",
        "log.showSignature=false",
    )
    for word in ("-c", setting)
)
# With a fixed identity and date, the same change always makes the same commit id.
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "evtchn-harness"),
        ("EMAIL", "evtchn-harness@localhost"),
        ("DATE", "1970-01-01T00:00:00Z"),
    )
}


def undisturbed(home: Path) -> dict[str, str | None]:
    """Return an environment in which nobody's configuration, hooks or signature play a part.

    For repositories that we make ourselves.  ``home`` is an empty directory in place of the
    user's.
    """
    unset = ("GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_TEMPLATE_DIR")
    return {
        **IDENTITY,
        **dict.fromkeys(unset),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",  # what git says is read
    }


def run(
    *words: str | Path,
    home: Path | None = None,
    tree: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    stdin: bytes | None = None,
    timeout: float | None = None,
) -> str:
    """Run ``git words`` and return what it printed.

    ``home`` is a repository's .git, ``tree`` a work tree; ``timeout`` is in seconds.  Values
    among ``words`` have gone through ``revision`` or ``repository``, or are ours.  LabError
    where git is not installed, CommandFailed when it exits non-zero.
    """
    at: list[str | Path] = ["--git-dir", home] if home else ["-C", tree] if tree else []
    return command.run(
        [command.which("git", "git"), *_HARMLESS, *at, *words],
        env={**_ENVIRONMENT, **(env or {})},
        stdin=stdin,
        timeout=timeout,
    )


def unfiltered(home: Path) -> dict[str, str | None]:
    """Return an environment in which git writes files as they are in the repository ``home``.

    Without it, the filters of its configuration would run: for ``archive`` and ``checkout``.
    """
    drivers = r"^filter\..*\.(clean|smudge|process|required)$"
    try:
        said = run("config", "--null", "--name-only", "--get-regexp", drivers, home=home)
    except command.CommandFailed:  # there is none
        return {}
    names = sorted({name for name in said.split("\0") if name})
    env: dict[str, str | None] = {"GIT_CONFIG_COUNT": str(len(names))}
    for number, name in enumerate(names):
        env[f"GIT_CONFIG_KEY_{number}"] = name
        env[f"GIT_CONFIG_VALUE_{number}"] = "false" if name.endswith(".required") else ""
    return env


def revision(text: str, where: str) -> str:
    """Return ``text``, which names a commit; ConfigError at ``where`` if it cannot be one."""
    return _value(text, where, "a revision", "give a commit, a tag or a branch")


def repository(text: str, where: str) -> str:
    """Return ``text``, the path or address of a repository.

    ConfigError at ``where`` if it cannot be one, or if its transport is not allowed.
    """
    known = ", ".join(f"{name}://" for name in _TRANSPORTS)
    hint = f"give a directory or an address that begins with {known}"
    found = _value(text, where, "a repository", hint)
    scheme, colons, _ = found.partition("::")
    if colons and scheme.replace("+", "").replace("-", "").isalnum():  # git-remote-SCHEME
        raise ConfigError(f"git's transport {scheme}:: is not allowed", where=where, hint=hint)
    return found


def said(error: command.CommandFailed) -> str:
    """Return the line that git printed as the reason of its failure."""
    lines = error.output.strip().splitlines() or ["git gave no reason"]
    return next((line for line in lines if line.startswith("fatal: ")), lines[-1])


def _value(text: str, where: str, what: str, hint: str) -> str:
    if text.startswith("-"):
        raise ConfigError(f"{text!r} begins with '-': {what} does not", where=where, hint=hint)
    if not text or not text.isprintable():
        raise ConfigError(f"{text!r} is not {what}", where=where, hint=hint)
    return text
