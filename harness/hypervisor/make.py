# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps of a build: a log, progress while it runs, and the first error when it fails."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from harness import cache, command
from harness.verdict import BuildError, LabError

# Called with the number of objects compiled so far, about twice a second.
Progress = Callable[[int], None]

_STARVED = 64 << 20  # bytes; a build takes about 200 MiB


def step(words: Sequence[str], folder: Path, tree: Path, log: Path) -> None:
    """Run one step of a build of ``tree`` that starts in ``folder``, adding its output to ``log``.

    BuildError with the first error of the tools, where it is, and the log's path; LabError when
    the disk is full.
    """
    part = log.with_suffix(".step")
    try:
        command.run(words, log=part)
    except command.CommandFailed as error:
        raise _explain(error, folder, tree, log) from None
    finally:
        with log.open("ab") as whole, part.open("rb") as said:
            shutil.copyfileobj(said, whole)
        part.unlink()


def _explain(error: command.CommandFailed, folder: Path, tree: Path, log: Path) -> LabError:
    """Return what failed, for a person: the first error, where it is, where the log is."""
    where, what = first_error(error.output, tree, folder)
    # A log on a full disk ends early, so the words may be missing from it.
    starved = shutil.disk_usage(tree).free < _STARVED and (not where or where.startswith("make"))
    if starved or "No space left on device" in error.output:
        return LabError(
            "no space left on device during the build",
            where=str(cache.root()),
            hint=f"free space there, or point {cache.ENVIRONMENT} at another directory",
        )
    return BuildError(what or error.what, where=where, hint=f"see {log}")


# GNU tools: "file:line:column: error: text", "file:line: Error: text", "ld: file:...: text"; of an
# assembler behind a pipe (-pipe) "{standard input}:line: Error: text".
_ERROR = re.compile(
    r"^(?P<file>[^\s:]+|\{standard input\}):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: "
    r"(?P<what>.*)",
    re.I,
)
_LINK = re.compile(r"^\S*ld: (?:(?P<file>\S+):\s*)?(?:in function .*|(?P<what>.*))$")
_UNDEFINED = re.compile(
    r"^(?:\S*ld: )?(?P<file>[^\s:]+):(?:(?P<line>\d+):|\([^)]*\):)? "
    r"(?P<what>undefined reference to .*)"
)
_KCONFIG = re.compile(r"^(?P<file>\S*Kconfig\S*):(?P<line>\d+): (?P<what>.*)")
_MAKE = re.compile(r"^(?P<file>make(?:\[\d+\])?): \*\*\* (?P<what>.*)")
_ENTER = re.compile(r"^make\[\d+\]: Entering directory '(?P<folder>.*)'")


def first_error(output: str, tree: Path, folder: Path) -> tuple[str, str]:
    """Return ("file:line" relative to ``tree``, message) of the first error in a build's output.

    The build started in ``folder``.
    A compiler's or assembler's error comes before a linker's, that before make's own.
    Both are empty when there is none.
    """
    lines = output.splitlines()
    for pattern in (_ERROR, _UNDEFINED, _KCONFIG, _LINK, _MAKE):
        here = folder
        for line in lines:
            if entered := _ENTER.match(line):
                here = Path(entered["folder"])
            found = pattern.match(line)
            if found is None or found["what"] is None:
                continue
            number = found.groupdict().get("line")
            return _place(found["file"], number, (here, folder, tree), tree), found["what"].strip()
    return "", ""


def _place(file: str | None, line: str | None, folders: Iterable[Path], tree: Path) -> str:
    if file is None:
        return ""
    # Older trees enter each directory, newer ones stay in xen/; DWARF is relative to the top.
    for path in (Path(os.path.normpath(folder / file)) for folder in folders):
        if path.exists() and path.is_relative_to(tree):
            file = str(path.relative_to(tree))
            break
    return f"{file}:{line}" if line else file


@contextlib.contextmanager
def counted(tree: Path, progress: Progress | None) -> Iterator[None]:
    """Call ``progress`` with the number of objects in ``tree``, while in the block.

    They are counted as files: what make says of them depends on its version and on the tree's.
    """
    if progress is None:
        yield
        return
    done = threading.Event()

    def count() -> None:
        while not done.wait(0.5):
            names = (name for _, _, files in os.walk(tree) for name in files)
            progress(sum(name.endswith((".o", ".opic")) for name in names))

    counter = threading.Thread(target=count, name="build progress", daemon=True)
    counter.start()
    try:
        yield
    finally:
        done.set()
        counter.join()
