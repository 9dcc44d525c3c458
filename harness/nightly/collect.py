# SPDX-License-Identifier: GPL-2.0-or-later
"""``--collect``: bring the cells that the jobs of a CI ran, each into its own store, together in
one night."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from harness.config.nightly import Cell
from harness.nightly.schema import CellKey, CellRow
from harness.nightly.store import Store
from harness.results.directory import cannot_write, is_below
from harness.verdict import LabError, Verdict

_ONLY_FILES = "nothing of it is published; a run has only files and folders: look at that job"


class CollectRunner:
    """A runner that takes, instead of a run, the newest result of the cell in ``shards``.

    ``shards`` are store directories; ConfigError if one of them has no store.  A cell that no job
    ran is a lab fault, and so is one whose run has files outside of its shard: what is collected is
    published.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self._found: dict[CellKey, tuple[Path, CellRow]] = {}
        nights: dict[CellKey, str] = {}
        for shard in shards:
            with Store(shard) as store:
                for night in store.nights(1):
                    for cell in store.cells(night.id):
                        if cell.state == "done" and nights.get(cell.key, "") < night.id:
                            nights[cell.key] = night.id
                            self._found[cell.key] = store.home, cell

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event, /) -> None:
        """Copy the run of ``cell`` to ``out``."""
        if cell.key not in self._found:
            raise LabError("no job ran this cell")
        home, row = self._found[cell.key]
        path = _run(home, row.run)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                _copy_folder(path, out)
            log = path.with_name(f"{path.name}.log")
            if os.path.lexists(log):
                _copy_file(log, out.with_name(f"{out.name}.log"))
        except OSError as error:
            raise cannot_write(out, error) from error
        except LabError:
            shutil.rmtree(out, ignore_errors=True)  # a part of a run is none
            raise
        if row.verdict == Verdict.MISS:
            raise LabError(row.message)


def _run(home: Path, run: str) -> Path:
    """Return the directory of ``run``, as the store in ``home`` names it; LabError if outside."""
    path = home / run
    if not run or not is_below(run) or not path.resolve().is_relative_to(home.resolve()):
        raise LabError(
            f"the store of the job names a run outside of itself: {run!r}",
            where=str(home),
            hint=_ONLY_FILES,
        )
    return path


def _copy_folder(source: Path, target: Path) -> None:
    """Copy ``source`` with all that is in it to ``target``, which must not exist."""
    target.mkdir()
    with os.scandir(source) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                _copy_folder(source / item.name, target / item.name)
            else:
                _copy_file(source / item.name, target / item.name)


def _copy_file(source: Path, target: Path) -> None:
    """Copy the file ``source``; LabError if it is a link, a pipe or a device."""
    if not stat.S_ISREG(source.lstat().st_mode):
        raise LabError("neither a file nor a folder", where=str(source), hint=_ONLY_FILES)
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as content, target.open("xb") as copy:
        shutil.copyfileobj(content, copy)
