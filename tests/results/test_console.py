# SPDX-License-Identifier: GPL-2.0-or-later
"""Excerpts of console logs: the right lines, marked, whatever the log holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.results.console import AFTER, BEFORE, MAX_EXCERPTS, TAIL, Stream, read_streams
from harness.results.records import ConsoleEvent

_EVERY = range(50, 850, 100)
_ZERO = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def _log(folder: Path, texts: list[str], name: str = "xen") -> None:
    stamps = [
        (_ZERO + timedelta(seconds=i)).isoformat(timespec="milliseconds") for i in range(9999)
    ]
    lines = [f"{stamp} {text}" for stamp, text in zip(stamps, texts, strict=False)]
    (folder / f"{name}.log").write_text("".join(f"{line}\n" for line in lines), newline="")


def _event(second: float, text: str, stream: str = "xen") -> ConsoleEvent:
    return ConsoleEvent("h", stream, _ZERO + timedelta(seconds=second), "xen-panic", text)


def _only(folder: Path, *events: ConsoleEvent) -> Stream:
    (stream,) = read_streams(folder, events)
    return stream


def test_streams_come_xen_first_and_none_is_none(tmp_path: Path) -> None:
    for name in ("domu2", "dom0", "xen", "domu1"):
        _log(tmp_path, ["x"], name)
    names = [stream.name for stream in read_streams(tmp_path, [])]
    assert names == ["xen", "dom0", "domu1", "domu2"]
    assert read_streams(tmp_path / "nowhere", []) == ()


def test_an_event_is_shown_with_what_stood_around_it(tmp_path: Path) -> None:
    _log(tmp_path, [f"line {i}" for i in range(100)])
    stream = _only(tmp_path, _event(50, "line 50"))
    (excerpt,) = stream.excerpts
    assert excerpt.first == 50 - BEFORE + 1
    assert [line.text for line in excerpt.lines] == [
        f"line {i}" for i in range(50 - BEFORE, 50 + AFTER + 1)
    ]
    assert [line.text for line in excerpt.lines if line.event] == ["line 50"]
    assert (stream.total, stream.left_off, stream.begin) == (100, 0, _ZERO)


def test_of_equal_lines_the_one_of_that_time_is_marked(tmp_path: Path) -> None:
    _log(tmp_path, ["same"] * 60)
    stream = _only(tmp_path, _event(20.4, "same"))
    (excerpt,) = stream.excerpts
    marked = [line.time for line in excerpt.lines if line.event]
    assert marked == [_ZERO + timedelta(seconds=20)]


def test_two_events_on_equal_lines_mark_two_lines(tmp_path: Path) -> None:
    _log(tmp_path, ["same"] * 60)
    stream = _only(tmp_path, _event(20, "same"), _event(20, "same"))
    (excerpt,) = stream.excerpts
    assert sum(1 for line in excerpt.lines if line.event) == 2


def test_an_event_whose_text_is_not_there_goes_by_time(tmp_path: Path) -> None:
    _log(tmp_path, [f"line {i}" for i in range(60)])
    (excerpt,) = _only(tmp_path, _event(30, "split in two by the driver")).excerpts
    assert [line.text for line in excerpt.lines if line.event] == ["line 30"]


def test_near_events_share_an_excerpt_and_far_ones_do_not(tmp_path: Path) -> None:
    _log(tmp_path, [f"line {i}." for i in range(300)])
    events = [_event(i, f"line {i}.") for i in (100, 110, 250)]
    assert [len(excerpt.lines) for excerpt in _only(tmp_path, *events).excerpts] == [
        10 + BEFORE + AFTER + 1,
        BEFORE + AFTER + 1,
    ]


def test_very_many_events_are_cut_and_counted(tmp_path: Path) -> None:
    _log(tmp_path, [f"line {i}." for i in range(3000)])
    events = [_event(i * 100, f"line {i * 100}.") for i in range(20)]
    stream = _only(tmp_path, *events)
    assert len(stream.excerpts) == MAX_EXCERPTS
    assert stream.left_off == 20 - MAX_EXCERPTS


def test_the_tail_is_the_end(tmp_path: Path) -> None:
    _log(tmp_path, [f"line {i}" for i in range(500)])
    tail = _only(tmp_path).tail
    assert tail.first == 500 - TAIL + 1
    assert tail.lines[-1].text == "line 499"


def test_colours_and_controls_are_taken_out_and_no_line_is_split_at_them(tmp_path: Path) -> None:
    _log(tmp_path, ["\x1b[0;1;31mred\x1b[m \x07bell\x0b\x0c\x1c\u2028 one\rline", "y" * 5000])
    first, second = _only(tmp_path).tail.lines
    assert first.text == "red bell\u2028 oneline"
    assert len(second.text) < 300


def test_an_event_with_colours_is_found(tmp_path: Path) -> None:
    _log(tmp_path, ["a", "\x1b[31mPanic\x1b[m now", "b"])
    (excerpt,) = _only(tmp_path, _event(1, "\x1b[31mPanic\x1b[m now")).excerpts
    assert [line.text for line in excerpt.lines if line.event] == ["Panic now"]


def test_a_log_without_time_stamps_or_without_anything_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "xen.log").write_bytes(b"no stamp here\n\xff\xfe\n")
    (tmp_path / "dom0.log").touch()
    xen, dom0 = read_streams(tmp_path, [_event(1, "nothing of the kind")])
    assert [line.text for line in xen.tail.lines] == ["no stamp here", "\ufffd\ufffd"]
    assert (xen.begin, xen.excerpts, xen.left_off) == (None, (), 1)
    assert (dom0.total, dom0.tail.lines) == (0, ())


def test_a_crash_is_shown_however_many_symptoms_came_before(tmp_path: Path) -> None:
    _log(tmp_path, [f"line {i}" for i in range(900)])
    symptoms = [replace(_event(at, f"line {at}"), event="warning", dies=False) for at in _EVERY]
    stream = _only(tmp_path, *symptoms, _event(888, "line 888"))
    assert len(stream.excerpts) == MAX_EXCERPTS
    shown = [line.text for excerpt in stream.excerpts for line in excerpt.lines if line.event]
    assert shown == [f"line {at}" for at in _EVERY[: MAX_EXCERPTS - 1]] + ["line 888"]
    assert stream.left_off == len(_EVERY) + 1 - MAX_EXCERPTS
