# SPDX-License-Identifier: GPL-2.0-or-later
"""What consoles, BMCs, boot loaders and archives really look like, read by the code that reads it.

``pytest tests/field`` tries the cases of this folder; ``--field DIR`` adds those of another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.field import archives, bmcs, boot_loaders, configurations, consoles, junit
from tests.field.case import Case

# By the suffix of the input.  A judge raises AssertionError unless the outcome is the wanted one.
_JUDGES: dict[str, Callable[[Case, Path, pytest.MonkeyPatch], None]] = {
    ".log": consoles.judge_log,
    ".bin": consoles.judge_telnet,
    ".transcript": bmcs.judge_transcript,
    ".jsonl": bmcs.judge_redfish,
    ".env": boot_loaders.judge_server,
    ".cfg": boot_loaders.judge_file,
    ".yaml": configurations.judge,
    ".xml": junit.judge,
    ".list": archives.judge,
    ".sources": archives.judge,
}


def test_field(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _JUDGES[case.path.suffix](case, tmp_path, monkeypatch)
