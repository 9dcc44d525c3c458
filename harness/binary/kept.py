# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on a build, kept as long as the build and the code that made it are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import cache
from harness.binary.judge import document, judge

_HARNESS = Path(__file__).resolve().parents[1]
_DECIDES = ("binary", "model", "hypervisor/dwarf")  # folders whose code makes the verdict
_FILE = "verdict.json"


def kept_document(elf: Path, build_id: str, model: str) -> dict[str, Any]:
    """Return what ``model binary --json`` says of ``elf``, from the cache if it was said before.

    ``build_id``: of ``elf``, hex.  ``model`` and errors as of judge.
    """

    def make(place: Path) -> None:
        (place / _FILE).write_text(json.dumps(document(judge(elf, model))))

    code = [file for folder in _DECIDES for file in (_HARNESS / folder).rglob("*.py")]
    name = cache.key(build_id, model, cache.digest_files(code, base=_HARNESS))
    found: dict[str, Any] = json.loads((cache.entry("verdicts", name, make) / _FILE).read_text())
    return found
