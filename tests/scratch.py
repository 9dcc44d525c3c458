# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders for what many tests of one run share, and that goes when the run ends."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def folder(prefix: str) -> Path:
    """Return a new folder outside every test's own, removed when this Python ends."""
    made = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
