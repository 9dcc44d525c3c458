# SPDX-License-Identifier: GPL-2.0-or-later
"""A verdict in the cache is no longer taken when code that decides it has changed."""

from __future__ import annotations

import subprocess
import sys

from harness.binary import kept

# What the judge is given, or only passes on: paths, texts, sources, errors.
_DECIDES_NOTHING = ("apt", "cache", "command", "config", "evidence", "git", "shown", "verdict")


def test_the_name_of_a_verdict_is_of_all_code_that_judges() -> None:
    program = (
        "import sys, harness.binary.judge\n"
        "for name, module in sys.modules.items():\n"
        "    if name.startswith('harness.'): print(name, module.__file__)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    used = dict(line.split(maxsplit=1) for line in said.splitlines())
    judging = {file for name, file in used.items() if name.split(".")[1] not in _DECIDES_NOTHING}
    assert any(file.endswith("hypervisor/code.py") for file in judging)
    assert judging - {str(file) for file in kept.code_that_judges()} == set()
