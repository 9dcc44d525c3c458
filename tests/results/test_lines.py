# SPDX-License-Identifier: GPL-2.0-or-later
"""What ran, of several runs: joined, counted, and shown beside the source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.results import lines
from harness.results.lines import FileLines, HostLines
from harness.verdict import ConfigError

FILE = "xen/common/event_channel.c"
TEXT = "int a(int b)\n{\n    if ( b < 1 )\n        return 0;\n    return 1;\n}\n"


def host(
    ran: set[int], *, arch: str = "arm64", code: tuple[int, ...] = (1, 3, 4, 5), text: str = TEXT
) -> HostLines:
    found = FileLines(text, frozenset(code), frozenset(ran))
    return HostLines("qemu", arch, "4.17.0 counter", {FILE: found})


def saved(folder: Path, *found: HostLines) -> Path:
    folder.mkdir(exist_ok=True)
    for each in found:
        lines.save(each, folder, f"qemu-{each.arch}")
    return folder


def test_of_several_runs_a_line_ran_if_it_ran_in_any(tmp_path: Path) -> None:
    one = saved(tmp_path / "one", host({1, 3, 4}))
    two = saved(tmp_path / "two", host({1, 5}), host({1}, arch="x86_64", code=(1, 3, 5)))
    told = lines.document(lines.load([one, two]))
    assert [(each["name"], each["ran"], each["code"]) for each in told["runs"]] == [
        ("one: qemu-arm64", 3, 4),
        ("two: qemu-arm64", 2, 4),
        ("two: qemu-x86_64", 1, 3),
    ]
    arm, x86 = told["together"]
    assert (arm["arch"], arm["ran"], arm["files"][FILE]["not_run"]) == ("arm64", 4, [])
    assert (x86["arch"], x86["ran"], x86["files"][FILE]["not_run"]) == ("x86_64", 1, [3, 5])


def test_a_host_that_was_started_twice_in_a_run_keeps_what_ran_first(tmp_path: Path) -> None:
    saved(tmp_path, host({1, 3}))
    saved(tmp_path, host({1, 5}))
    (found,) = lines.load([tmp_path])
    assert found.files[FILE].ran == {1, 3, 5}
    assert json.loads((tmp_path / lines.DOCUMENT).read_text())["together"][0]["ran"] == 3


def test_the_page_shows_the_source_as_text_with_a_mark_for_each_architecture(
    tmp_path: Path,
) -> None:
    saved(tmp_path, host({1, 3}), host({1}, arch="x86_64", code=(1, 3, 5)))
    shown = (tmp_path / lines.PAGE).read_text()
    assert "if ( b &lt; 1 )" in shown
    row = shown[shown.index('<td class="number">3') :].partition("<pre>")[0]
    assert row.index('"mark ran"') < row.index('"mark not"')
    assert "2 of 4" in shown and "50 %" in shown and "1 of 3" in shown


@pytest.mark.parametrize(
    "other",
    [
        host({1}, text=TEXT + "\n"),
        host({1}, code=(1, 3)),
        host({1}, arch="x86_64", text=TEXT.replace("1", "2")),
    ],
    ids=["other source", "other code", "other source of the other architecture"],
)
def test_runs_of_another_xen_are_refused(tmp_path: Path, other: HostLines) -> None:
    one, two = saved(tmp_path / "one", host({1})), saved(tmp_path / "two", other)
    with pytest.raises(ConfigError, match="not the same"):
        lines.document(lines.load([one, two]))


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1, "files": {"a": 3}, "arch": "", "xen": ""}'],
)
def test_a_damaged_file_is_told(tmp_path: Path, body: str) -> None:
    (tmp_path / lines.name_of("qemu-arm64")).write_text(body)
    with pytest.raises(ConfigError, match="cannot be read"):
        lines.load([tmp_path])


def test_a_run_without_lines_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="says nothing of lines"):
        lines.load([tmp_path])
