# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal is resumed after a kill, and only with the same header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bisect.journal import Header, Journal
from harness.bisect.observations import Built, Event, Observations, Skipped, Tested, Try
from harness.bisect.simulate import TARGET
from harness.results import seal
from harness.verdict import ConfigError, HarnessError

HEAD = Header("good", "bad", ("test_x.py::test_y",), "qemu-arm64", "")
TRIES = (Try("race", "pass"), Try("race", "fail", TARGET, "lost"))
EVENTS: list[Event] = [
    Built("bad", "digest", 1.5),
    Tested("bad", TRIES, 2.0, 40.0, "/p", "bad"),
    Skipped("c3", "does not build: x.c:3: expected ';'"),
]


def written(path: Path) -> Observations:
    with Journal(path, HEAD, Observations()) as journal:
        for event in EVENTS:
            journal.add(event)
        return journal.observations


def again(path: Path) -> Observations:
    with Journal(path, HEAD, Observations()) as journal:
        return journal.observations


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    assert written(tmp_path / "j").events == ()
    observations = again(tmp_path / "j")
    assert list(observations.events) == EVENTS
    assert observations.target("bad") == TARGET
    assert observations.skipped == {"c3": "does not build: x.c:3: expected ';'"}


def test_a_kill_at_any_byte_costs_one_event_at_most(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    content = path.read_bytes()
    ends = [number + 1 for number, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        whole = max(0, sum(end <= cut for end in ends) - 1)
        assert list(again(path).events) == EVENTS[:whole]
        with Journal(path, HEAD, Observations()) as journal:
            journal.add(EVENTS[0])
        assert list(again(path).events) == [*EVENTS[:whole], EVENTS[0]]


def test_a_journal_of_another_question_is_not_resumed(tmp_path: Path) -> None:
    written(tmp_path / "j")
    other = Header("older", "bad", HEAD.tests, HEAD.host, "")
    with (
        pytest.raises(ConfigError, match="another question"),
        Journal(tmp_path / "j", other, Observations()),
    ):
        pass


def test_only_one_process_can_write_the_journal(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j", HEAD, Observations()),
        pytest.raises(ConfigError, match="another bisection writes here"),
        Journal(tmp_path / "j", HEAD, Observations()),
    ):
        pass


@pytest.mark.parametrize("line", ['{"kind": "tested"}', '{"kind": "x"}', "[]", "{"])
def test_damage_in_the_middle_is_reported(tmp_path: Path, line: str) -> None:
    written(tmp_path / "j")
    with (tmp_path / "j").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(HarnessError, match=r"j:5: .*; give --out a new directory"):
        again(tmp_path / "j")


def test_a_bisection_of_an_older_harness_is_not_resumed(tmp_path: Path) -> None:
    """It compared failures by their messages, which are not compared any more."""
    written(tmp_path / "j")
    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    for line in lines:
        for new in ("compares", *seal.KEYS):  # nor did it seal its lines
            line.pop(new, None)
    (tmp_path / "j").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(ConfigError, match="an older harness began this bisection") as caught:
        again(tmp_path / "j")
    assert caught.value.hint == "give --out a new directory"


def test_an_unsealed_journal_of_an_older_harness_is_resumed(tmp_path: Path) -> None:
    written(tmp_path / "j")
    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    bare = [{key: line[key] for key in line if key not in seal.KEYS} for line in lines]
    (tmp_path / "j").write_text("".join(f"{json.dumps(line)}\n" for line in bare))
    with Journal(tmp_path / "j", HEAD, Observations()) as journal:
        journal.add(EVENTS[0])
    assert list(again(tmp_path / "j").events) == [*EVENTS, EVENTS[0]]


def test_a_changed_removed_or_doubled_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    head, *events = path.read_bytes().splitlines(keepends=True)
    damages = {
        "wrong checksum": [head, events[0].replace(b"1.5", b"1.6"), *events[1:]],
        "line 3 is missing": [head, events[0], events[2]],
        "line 2 was written before line 2": [head, events[0], *events],
        "no checksum": [head, b'{"kind": "skipped", "revision": "x", "why": "y"}\n'],
    }
    for said, lines in damages.items():
        path.write_bytes(b"".join(lines))
        with pytest.raises(HarnessError, match=said):
            again(path)
