# SPDX-License-Identifier: GPL-2.0-or-later
"""Programmes in files: written and read, and what is said of a file that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fuzz.programme import Flag, Step
from harness.fuzz.programme_file import ProgrammeFile, in_file, read_file, write_file
from harness.verdict import ConfigError

from .test_programme import STEPS

_ALL_FLAGS = sum(Flag)
_KNOWN = {
    "host": "qemu-arm64",
    "guest": "arm",
    "flavour": "counter",
    "xen": "4.17",
    "seed": 1,
    "message": "",
    "vcpu": 0,
}


def _file(steps: list[Step]) -> ProgrammeFile:
    return ProgrammeFile(**_KNOWN, steps=in_file(steps))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.lists(STEPS, min_size=1))
def test_a_programme_comes_back_as_it_was(steps: list[Step]) -> None:
    known = [step._replace(flags=step.flags & _ALL_FLAGS) for step in steps]
    assert _file(known).batch().steps == tuple(known)


def test_it_is_written_with_a_line_for_each_step(tmp_path: Path) -> None:
    file = _file([Step(17), Step(4, int(Flag.PORT_OF_SLOT), port=3)])
    write_file(tmp_path / "programme-1.json", file)
    text = (tmp_path / "programme-1.json").read_text()
    assert '  {"what": "SEND", "flags": ["PORT_OF_SLOT"], "port": 3}\n' in text
    assert read_file(tmp_path / "programme-1.json") == file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a programme"),
        ("[]", "not a programme"),
        ('{"version": 2}', "version"),
        (json.dumps({**_KNOWN, "steps": [{"what": "JUMP"}]}), "there is no JUMP"),
        (json.dumps({**_KNOWN, "steps": [{"what": "SEND", "port": -1}]}), "or equal to 0"),
    ],
)
def test_what_is_none_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "programme-1.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert all(each in str(caught.value) for each in ("not a programme", str(path), said))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "none.json")
