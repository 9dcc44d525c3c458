# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on a build, kept as long as the build and the code that made it are the same."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

from harness import cache
from harness.binary.judge import document, judge

_HARNESS = Path(__file__).resolve().parents[1]
_DECIDES = ("arch.py", "binary", "model", "hypervisor")  # whose code makes the verdict
_SHELF = "verdicts"
_FILE = "verdict.json"


def kept_document(elf: Path, build_id: str, model: str) -> dict[str, Any]:
    """Return what ``model binary --json`` says of ``elf``, from the cache if it was said before.

    ``build_id``: of ``elf``, hex.  ``model`` and errors as of judge.
    """

    def make(place: Path) -> None:
        (place / _FILE).write_text(json.dumps(document(judge(elf, model))))

    name = _name(build_id, model)
    found: dict[str, Any] = json.loads((cache.entry(_SHELF, name, make) / _FILE).read_text())
    return found


def is_kept(build_id: str, model: str) -> bool:
    """Say whether the verdict on the build ``build_id`` for ``model`` is in the cache."""
    return (cache.shelf(_SHELF) / _name(build_id, model)).is_dir()


def words_to_keep(elf: Path, build_id: str, model: str) -> list[str]:
    """Return the command that puts the verdict on ``elf`` into the cache: for another process."""
    return [sys.executable, "-P", "-m", "harness.binary.kept", str(elf), build_id, model]


def code_that_judges() -> list[Path]:
    """Return the files of the harness that a verdict depends on."""
    return [
        file
        for place in map(_HARNESS.joinpath, _DECIDES)
        for file in ([place] if place.is_file() else place.rglob("*.py"))
    ]


def _name(build_id: str, model: str) -> str:
    return cache.key(build_id, model, _code())


@functools.cache  # what this process judges by is what it has loaded
def _code() -> str:
    return cache.digest_files(code_that_judges(), base=_HARNESS)


if __name__ == "__main__":
    kept_document(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
