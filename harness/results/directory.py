# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout of a run directory, and how a new one is made."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from harness.shown import without_secrets
from harness.verdict import ConfigError, LabError

SHELF = Path("results")  # default place of run directories, below the working directory
LATEST = "latest"

_made: list[Path] = []  # by this process, in this order


@dataclass(frozen=True)
class RunDirectory:
    """Paths inside one run directory (absolute)."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "results.jsonl"

    @property
    def junit(self) -> Path:
        return self.path / "junit.xml"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    def holds(self, path: Path) -> bool:
        """Return whether ``path`` is in this directory, wherever links lead.

        It may come from somebody else's journal, and lead out by "..", by an absolute path, or by
        a link.
        """
        try:
            return path.resolve().is_relative_to(self.path.resolve())
        except (OSError, ValueError):  # not a name of a file
            return False

    def file(self, name: str) -> Path | None:
        """Return the regular file ``name``, relative to this directory; None if it has none."""
        path = self.path / name
        try:
            return path if self.holds(path) and path.is_file() else None
        except (OSError, ValueError):
            return None

    def console(self, host: str) -> Path:
        """Folder of ``host``'s consoles: <stream>.log, each line after its ISO time stamp."""
        return self.path / "console" / host

    def history(self, host: str) -> Path:
        """Folder of the histories that the agents on ``host`` recorded, and of the witnesses."""
        return self.path / "history" / host


def create(out: Path | None = None) -> RunDirectory:
    """Make the directory of a new run: ``out``, or results/<UTC time>-<6 hex>.

    ConfigError if ``out`` exists and is not empty.  In the default place, the link results/latest
    then points to the new run, if links are possible.
    """
    if out is not None:
        _made.append(_create_chosen(out).path)
        return RunDirectory(_made[-1])
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    path = SHELF.absolute() / name
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    _point_latest(path)
    _made.append(path)
    return RunDirectory(path)


def newest() -> Path | None:
    """Return the directory that this process has made last; None if it has made none."""
    return _made[-1] if _made else None


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path``; a reader sees the old or the new file, never a part of it.

    Passwords and tokens in addresses are hidden.
    """
    work = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        try:
            work.unlink(missing_ok=True)  # it may be a link that somebody else put there
            with work.open("x", encoding="utf-8", errors="backslashreplace") as sink:
                sink.write(without_secrets(text))
                sink.flush()
                os.fsync(sink.fileno())
            work.replace(path)
        finally:
            work.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def is_below(name: str) -> bool:
    """Return whether the path ``name`` can only be a file below the directory that it is in."""
    path = PurePosixPath(name)
    return name.isprintable() and not path.is_absolute() and ".." not in path.parts


def unused(path: Path) -> Path:
    """Return ``path``; if it exists, with the first free number after its stem: ``load-2``."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found


def cannot_write(path: Path, error: OSError) -> LabError:
    """Return the LabError for results that could not be written to ``path``."""
    return LabError(
        f"cannot write the results: {error.strerror or error}",
        where=str(error.filename or path),
        hint="free space or correct the permissions there",
    )


def _create_chosen(out: Path) -> RunDirectory:
    path = out.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(
                "the directory is not empty",
                where=str(out),
                hint="give --out a new directory, so that no earlier result is lost",
            )
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            "not a directory", where=str(error.filename), hint="give --out a new directory"
        ) from None
    except OSError as error:
        raise cannot_write(path, error) from error
    return RunDirectory(path)


def _point_latest(path: Path) -> None:
    link = path.parent / LATEST
    work = path.parent / f".{LATEST}-{path.name}"
    with contextlib.suppress(OSError):  # the link is a convenience: the run goes on without it
        work.symlink_to(path.name)
        try:
            work.replace(link)
        finally:
            work.unlink(missing_ok=True)
