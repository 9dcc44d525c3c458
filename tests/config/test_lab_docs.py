# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/lab.md lists every field of a host, with the default it really has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.config.host import XEN_RESERVE_MIB, QemuHost
from harness.config.lab import load_lab

_DOCS = (Path(__file__).parents[2] / "docs" / "lab.md").read_text()


def test_every_field_is_there_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", _DOCS, re.MULTILINE)
    documented = {field: default.strip().strip("`") for field, default in rows}
    fields = {name: field for name, field in QemuHost.model_fields.items() if name != "name"}
    assert set(documented) == set(fields)
    for name, field in fields.items():
        if not field.is_required() and field.default is not None:
            assert documented[name] == str(field.default)


def test_the_example_is_a_lab_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", _DOCS, re.DOTALL)
    (tmp_path / "lab.yaml").write_text(example)
    assert {"big-arm", "small"} < set(load_lab(tmp_path / "lab.yaml"))


def test_the_memory_for_xen_is_the_one_that_is_checked() -> None:
    assert f"must leave {XEN_RESERVE_MIB} MiB" in _DOCS
