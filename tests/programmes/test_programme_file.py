# SPDX-License-Identifier: GPL-2.0-or-later
"""Programmes in files: written and read, and what is said of a file that is none."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fuzz.concurrent import concurrent_programme
from harness.fuzz.generate import programme
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


_BEGIN, _MEET = {"what": "BEGIN"}, {"what": "MEET"}


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ({"steps": [{"what": "LOOK"}]}, "the first of its steps has to be BEGIN"),
        ({"steps": [{"what": "BEGIN", "flags": ["FAULT_IN"]}]}, "BEGIN has no flags"),
        (
            {"steps": [_BEGIN, {"what": "BIND_PIRQ"}]},
            "BIND_PIRQ: the bare guest's are not followed",
        ),
        ({"steps": [_BEGIN, {"what": "SET_BIT", "number": 2}]}, "SET_BIT: there is no bit 2"),
        ({"steps": [_BEGIN, {"what": "UNKNOWN_COMMAND", "value": 4}]}, "Xen knows EVTCHNOP 4"),
        (
            {
                "steps": [
                    _BEGIN,
                    {"what": "UNKNOWN_COMMAND", "flags": ["VALUE_OF_SLOT"], "value": 15},
                ]
            },
            "its value is no slot's",
        ),
        ({"steps": [_BEGIN, _MEET], "second": [_MEET], "vcpu": 1}, "vcpu has to be 0"),
        ({"steps": [_BEGIN, _MEET], "second": [_BEGIN]}, "first step of second has to be MEET"),
        (
            {"steps": [_BEGIN, _MEET, _BEGIN], "second": [_MEET, {"what": "SEND"}]},
            "BEGIN is for vCPU 0 while vCPU 1 waits at a MEET",
        ),
        ({"steps": [_BEGIN, _MEET], "second": [_MEET, {"what": "SEND"}], "times": 6000}, "times: "),
        ({"steps": [_BEGIN], "second": [_MEET, {"what": "RESET"}]}, "RESET is for vCPU 0 while"),
        (
            {"steps": [_BEGIN], "second": [_MEET, {"what": "STATUS", "flags": ["FAULT_OUT"]}]},
            "FAULT_OUT is for vCPU 0 while",
        ),
    ],
)
def test_what_cannot_be_judged_is_told(
    tmp_path: Path, edited: dict[str, object], said: str
) -> None:
    """A person may edit a programme; one that the model cannot follow is refused, not misjudged."""
    path = tmp_path / "programme-1.json"
    path.write_text(json.dumps({**_KNOWN, **edited}))
    with pytest.raises(ConfigError, match=said):
        read_file(path)


def test_a_flag_that_is_there_twice_is_one_flag(tmp_path: Path) -> None:
    path = tmp_path / "programme-1.json"
    poll = {"what": "POLL", "flags": ["PAST", "PAST"]}
    path.write_text(json.dumps({**_KNOWN, "steps": [_BEGIN, poll]}))
    assert read_file(path).batch().steps[1].flags == Flag.PAST


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_can_be_read_again(tmp_path: Path, seed: int) -> None:
    """Also up to the first step, where Xen hung."""
    path = tmp_path / "programme-1.json"
    chance = Random(seed)
    first, second = concurrent_programme(chance)
    for steps, others in ((programme(chance), ()), (first, second), (first[:1], second[:1])):
        write_file(path, ProgrammeFile(**_KNOWN, steps=in_file(steps), second=in_file(others)))  # type: ignore[arg-type]
        assert read_file(path).batch().steps == tuple(steps)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "none.json")
