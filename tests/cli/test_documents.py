# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/results.md promises of the JSON of build and doctor."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from harness.arch import Arch
from harness.cli.build import document
from harness.hypervisor.build import Build
from harness.hypervisor.flavour import Model
from harness.hypervisor.source import Source
from harness.run.doctor import Check

_DOCS = (Path(__file__).parents[2] / "docs" / "results.md").read_text()


def _keys(command: str) -> list[str]:
    """Return the keys of the table that follows the mention of ``command``."""
    table = _DOCS.split(f"`{command} --json`:", 1)[1].split("|---|---|\n", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `(\w+)`", table, re.MULTILINE)


def test_build() -> None:
    tree = Path("/tree")
    source = Source("dir", tree, "4.17", (4, 17), "00")
    model = Model("counter", "given", "--model")
    built = Build(Arch.ARM64, "counter", model, source, *(tree,) * 4, "ab", "cd", "gcc", 1.0, True)
    made = document(built)
    assert list(made) == _keys("build")
    assert json.loads(json.dumps(made)) == made


def test_doctor() -> None:
    assert [field.name for field in dataclasses.fields(Check)] == _keys("doctor")
