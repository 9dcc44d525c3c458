# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that only some labs need: imported when they are, with one clear error."""

from __future__ import annotations

import importlib
from types import ModuleType

from harness.verdict import LabError


def module(name: str, extra: str) -> ModuleType:
    """Import ``name``; LabError names the ``extra`` of this package that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LabError(
            f"the Python package {name} is not installed",
            hint=f"run: pip install 'xen-evtchn-harness[{extra}]'",
        ) from error
