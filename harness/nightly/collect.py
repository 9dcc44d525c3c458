# SPDX-License-Identifier: GPL-2.0-or-later
"""``--collect``: bring the cells that the jobs of a CI ran, each into its own store, together in
one night."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from harness.config.nightly import Cell
from harness.nightly.schema import CellKey, CellRow
from harness.nightly.store import Store
from harness.results.directory import cannot_write
from harness.verdict import LabError, Verdict


class CollectRunner:
    """A runner that takes, instead of a run, the newest result of the cell in ``shards``.

    ``shards`` are store directories; ConfigError if one of them has no store.  A cell that no job
    ran is a lab fault.
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
                            self._found[cell.key] = store.home / cell.run, cell

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event, /) -> None:
        """Copy the run of ``cell`` to ``out``."""
        if cell.key not in self._found:
            raise LabError("no job ran this cell")
        path, row = self._found[cell.key]
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, out, symlinks=True)
            log = path.with_name(f"{path.name}.log")
            if log.is_file():
                shutil.copyfile(log, out.with_name(f"{out.name}.log"))
        except OSError as error:
            raise cannot_write(out, error) from error
        if row.verdict == Verdict.MISS:
            raise LabError(row.message)
