# SPDX-License-Identifier: GPL-2.0-or-later
"""A JSON file is its model's value, or it is said what is wrong with it, where, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from harness.arch import Arch
from harness.config import json_file
from harness.verdict import ConfigError


class Kept(BaseModel):
    arch: Arch
    ports: tuple[int, ...] = ()


def _read(path: Path) -> Kept:
    return json_file.read(path, Kept, kind="a kept one", hint="give another one")[0]


def test_the_value_comes_with_the_document_that_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text('{"arch": "arm64", "ports": [1, 2]}')
    found = json_file.read(path, Kept, kind="a kept one", hint="")
    assert found == (Kept(arch=Arch.ARM64, ports=(1, 2)), {"arch": "arm64", "ports": [1, 2]})


@pytest.mark.parametrize(
    ("text", "field", "what"),
    [
        ("", "", "not a kept one: "),
        ("[]", "", "not a kept one: "),
        ('{"arch": NaN}', "", "not a kept one: NaN is no number of JSON"),
        ("[" * 99 + "]" * 99, "", "not a kept one: nested too deeply"),
        ("{}", ": arch", "not a kept one: Field required"),
        ('{"arch": "arm64", "ports": [1, "x"]}', ": ports.1", "not a kept one: Input should be"),
    ],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, text: str, field: str, what: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        _read(path)
    assert raised.value.what.startswith(what)
    assert raised.value.where == f"{path}{field}"
    assert raised.value.hint == "give another one"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        _read(tmp_path / "none.json")
