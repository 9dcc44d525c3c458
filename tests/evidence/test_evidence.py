# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence is a value: it survives JSON, is told apart by what matters, and can be asked for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from harness.evidence import Evidence, Hang, codec, kinds, words
from harness.evidence.identity import identity
from harness.evidence.pattern import FIELDS, MAIN, patterns
from harness.model.explore.program import DONE

from .samples import HANG, SAMPLES

_DOCS = (Path(__file__).parents[2] / "docs" / "results.md").read_text()


def test_there_is_a_sample_of_every_kind() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(Evidence))
    assert {sample.kind for sample in SAMPLES} == set(MAIN)
    assert kinds.DONE == DONE


@pytest.mark.parametrize("seen", SAMPLES, ids=lambda seen: seen.kind)
def test_it_survives_json_and_has_its_words(seen: Evidence) -> None:
    document = json.loads(json.dumps(codec.to_json(seen)))
    assert codec.from_json(document) == seen
    assert codec.from_json(document | {"later": 1}) == seen  # a newer harness wrote it
    said = words.message(seen)
    assert said and "\n" not in said
    assert words.identity(identity(seen)).startswith(seen.kind)


def test_what_is_not_known_here_is_no_evidence() -> None:
    assert codec.from_json(None) is None
    assert codec.from_json({"kind": "of a later harness", "x": 1}) is None
    assert codec.from_json({"kind": ["damaged"]}) is None
    with pytest.raises(ValueError):
        codec.from_json({"kind": "crash", "what": 3})


def test_every_kind_is_another_failure() -> None:
    assert len({identity(seen) for seen in SAMPLES}) == len(SAMPLES)


def test_the_documented_kinds_and_fields_are_all_there_are() -> None:
    (section,) = [text for text in _DOCS.split("\n## ") if text.startswith("Evidence\n")]
    rows = [re.findall(r"`([^`]+)`", line) for line in section.splitlines() if line[:3] == "| `"]
    documented = {row[0]: set(row[1:]) for row in rows}
    assert set(documented) == set(MAIN)
    for seen in SAMPLES:
        assert set(codec.to_json(seen)) - {"kind"} <= documented[seen.kind]


@pytest.mark.parametrize(
    ("document", "matches"),
    [
        ("hang", True),
        ("crash", False),
        ({"hang": "any"}, True),
        ({"hang": "evtchn_write_lock"}, True),
        ({"hang": ["x", "evtchn_write_lock"]}, True),
        ({"hang": "evtchn_read_lock"}, False),
        ({"hang": {"function": "evtchn_write_lock", "port": "any", "writers": 1}}, True),
        ({"hang": {"function": "_write_lock", "port": "any"}}, False),  # all of one CPU
        ({"hang": {"fault": "leaked-reader", "cause": True}}, True),
        ({"hang": {"readers": 2}}, False),
        ({"hang": {"function": "evtchn_write_lock", "in_shim": False}}, True),
        ({"hang": {"function": "evtchn_write_lock", "in_shim": True}}, False),
        ({"crash": "bug", "hang": "any"}, True),  # one of several
        ({"hang": [{"readers": 2}, {"readers": 1}]}, True),
    ],
)
def test_what_is_expected_of_a_hang(document: Any, matches: bool) -> None:
    assert any(pattern.matches(HANG) for pattern in patterns(document)) is matches


@pytest.mark.parametrize("seen", SAMPLES, ids=lambda seen: seen.kind)
def test_every_kind_can_be_asked_for_by_its_main_field(seen: Evidence) -> None:
    assert MAIN[seen.kind] in FIELDS[seen.kind]
    assert all(pattern.matches(seen) for pattern in patterns(seen.kind))
    assert all(pattern.matches(seen) for pattern in patterns({seen.kind: {MAIN[seen.kind]: "any"}}))
    assert not any(pattern.matches(seen) for pattern in patterns({seen.kind: "something"}))


def test_ports_and_cpus_are_no_part_of_a_hangs_identity() -> None:
    moved = tuple(replace(spin, cpu=spin.cpu + 4, port=7, word=8195) for spin in HANG.cpus)
    assert identity(Hang(cpus=moved)) == identity(HANG)
    assert identity(HANG).site == "evtchn_write_lock"
