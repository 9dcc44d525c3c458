# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the files are that the harness reads and that are no modules of its own.

In a checkout, and so in an editable installation of one, they are the folders ``images/``,
``guests/`` and ``testcases/`` beside ``harness/``.  A wheel has copies of them, made when it is
built (``force-include`` in pyproject.toml), in ``harness/data_files/``.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "data_files"

FOLDERS = ("images", "guests", "testcases")
CHECKOUT = None if _IN_WHEEL.is_dir() else _PACKAGE.parent  # None: installed from a wheel
HOME = CHECKOUT or _IN_WHEEL  # the directory that has the FOLDERS

IMAGES = HOME / "images"  # package lists, libvirt's XML, Xen flavours as patch series
GUESTS = HOME / "guests"  # the agent's and the bare guest's C sources, the guests' init scripts
TESTCASES = HOME / "testcases"  # pytest files that run on a booted Xen
BOOT_TEST = TESTCASES / "boot" / "test_boot.py"  # of the suites it is no part
