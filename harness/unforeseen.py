# SPDX-License-Identifier: GPL-2.0-or-later
"""The last resort: an error that nobody foresaw is one line for people, its traceback in a file."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import traceback
from pathlib import Path

from harness.shown import shown

_NAME = "traceback"


def explained(error: BaseException, folder: Path | None = None) -> str:
    """Write the traceback of ``error`` into ``folder``, and return the line that says so.

    Without a folder, or if it cannot be written, the file is a temporary one.  Never raises.
    """
    where = kept("".join(traceback.format_exception(error)), folder)
    seen = f"the traceback is in {where}" if where else "its traceback could not be written"
    return f"not foreseen: {said(error)}; {seen}: please report it"


def said(error: BaseException) -> str:
    """Return kind, first line and place of ``error``: "KeyError: 'x' (harness/agent/wire.py:7)"."""
    try:
        first = (str(error).strip().splitlines() or [""])[0][:300]
    except Exception:  # its own __str__ is broken
        first = ""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({_short(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return shown(f"{type(error).__name__}: {first}".removesuffix(": ") + place)


def kept(text: str, folder: Path | None = None) -> str:
    """Write ``text`` to a new file; return its path, "" if none can be written."""
    for place in (folder, None):
        try:
            path = _temporary() if place is None else _numbered(place)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return str(path)
        except OSError:
            continue
    return ""


def _numbered(folder: Path) -> Path:
    """Make ``folder``/traceback-1.txt, or the next one: a name that is the same in every run."""
    for number in itertools.count(1):
        path = folder / f"{_NAME}-{number}.txt"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            break
    return path


def _temporary() -> Path:
    handle, path = tempfile.mkstemp(".txt", f"xen-evtchn-{_NAME}-")
    os.close(handle)
    return Path(path)


def _short(file: str) -> str:
    """Return ``file`` from ``harness`` on, if it is ours."""
    parts = Path(file).parts
    return str(Path(*parts[parts.index("harness") :])) if "harness" in parts else Path(file).name
