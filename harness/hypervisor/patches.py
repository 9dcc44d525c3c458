# SPDX-License-Identifier: GPL-2.0-or-later
"""Apply patches to a tree of Xen, and make sure that each hunk lands in its own function.

Our patches have the least context that applies.  In a tree other than the one that a patch was
made for, the same few lines may stand somewhere else first: an event that is raised for a global
VIRQ, say, reads like one that is raised for a physical interrupt.  git writes the function into
each hunk's header, and patch(1) does not look at it: that is done here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import command
from harness.scratch import scratch

_FILE = re.compile(r"^(?:---|\+\+\+) [^/\s]+/(\S+)", re.MULTILINE)
_SECTION = re.compile(r"^\+\+\+ [^/\s]+/(\S+)", re.MULTILINE)
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)$", re.MULTILINE)
_BEGUN = re.compile(r"^patching file (\S+)", re.MULTILINE)
_APPLIED = re.compile(r"^Hunk #(\d+) succeeded at (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^Hunk #\d+ FAILED.*|^can't find file.*", re.MULTILINE)
_NAMED = re.compile(r"(\w+)\s*\(")


@dataclass(frozen=True)
class Misfit:
    """The first patch of a series that does not fit a tree, and what of it does not."""

    patch: Path
    reason: str  # "Hunk #3 FAILED at 60. (xen/common/event_channel.c)"
    applied: int  # hunks of the series that fit before that


def apply(patches: Sequence[Path], tree: Path) -> Misfit | None:
    """Apply ``patches`` to ``tree`` without fuzz; return what does not fit, None if all do."""
    applied = 0
    for patch in patches:
        text = patch.read_text()
        names = _FILE.findall(text)
        before = {name: _lines(tree / name) for name in names}
        words = [command.which("patch", "patch"), "-p1", "-N", "-F0", "--verbose"]
        try:
            said = command.run([*words, "-d", tree, "-i", patch])
        except command.CommandFailed as error:
            failed = _FAILED.search(error.output)
            where = _BEGUN.findall(error.output[: failed.end()] if failed else error.output)
            reason = (failed[0] if failed else error.what) + (f" ({where[-1]})" if where else "")
            return Misfit(patch, reason, applied + len(_APPLIED.findall(error.output)))
        if astray := _astray(text, before, said):
            return Misfit(patch, astray, applied)
        applied += len(_APPLIED.findall(said))
    return None


def misfit(patches: Sequence[Path], tree: Path) -> Misfit | None:
    """Return what of ``patches`` does not fit ``tree``, None if all do; ``tree`` is not changed.

    LabError if ``patch`` is not installed.
    """
    with scratch() as folder:
        for name in {name for patch in patches for name in _FILE.findall(patch.read_text())}:
            if (tree / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / name, folder / name)
        return apply(patches, folder)


def _astray(text: str, before: dict[str, list[str]], said: str) -> str:
    """Return the first hunk that has landed in another function than its header names, or ""."""
    begun = [(match[1], match.end()) for match in _BEGUN.finditer(said)]
    ends = [start for _, start in begun[1:]] + [len(said)]
    for (name, start), end in zip(begun, ends, strict=True):
        hunks = _hunks(text, name)
        if not any(function for _, function in hunks):
            continue  # made by a diff that does not name functions
        grown = 0
        for number, at in _APPLIED.findall(said[start:end]):
            growth, function = hunks[int(number) - 1]
            found = function_at(before[name], int(at) - grown)
            grown += growth
            if found != function and _has(before[name], function):
                return f"Hunk #{number} would change {found} instead of {function} ({name})"
    return ""


def _hunks(text: str, name: str) -> list[tuple[int, str]]:
    """Return, for each hunk of ``name``: by how many lines the file grows, and the function."""
    sections = _SECTION.split(text)  # what is before the first file; then name, text, name, text...
    part = dict(zip(sections[1::2], sections[2::2], strict=True)).get(name, "")
    return [
        (int(new or 1) - int(old or 1), identity(function))
        for old, new, function in _HUNK.findall(part)
    ]


def function_at(lines: Sequence[str], at: int) -> str:
    """Return the function in which line ``at`` (from 1) is, by git's rule: the last line before it
    that begins like a name; "" if there is none."""
    heads = (line for line in reversed(lines[: at - 1]) if is_head(line))
    return identity(next(heads, ""))


def _has(lines: Sequence[str], function: str) -> bool:
    return any(is_head(line) and identity(line) == function for line in lines)


def is_head(line: str) -> bool:
    """Say whether a function begins at ``line``; a declaration does not count."""
    return (line[:1].isalpha() or line[:1] in ("_", "$")) and not line.endswith(";")


def identity(head: str) -> str:
    """Return what stays of a function's first line when its arguments or attributes change."""
    named = _NAMED.search(head)
    return named[1] if named else head.strip()


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines() if file.is_file() else []
