# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that floods its consoles and its agent's line: a good domU beside it is judged all the
same, memory and logs are bounded, and the pages are clean."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.real.conftest import harness, machines

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

HOST = "qemu-arm64"
TEST = Path(__file__).parent / "hostile" / "beside.py"
_LOG_MIB = 48  # the first 16 MiB of a console, and its last 8 to 16


class Scripts(HTMLParser):
    """Counts the scripts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found += tag == "script"


def test_a_hostile_guest_bends_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE_SECONDS", "20")
    out = tmp_path / "out"
    ran = harness("run", "--host", HOST, "--out", str(out), "--json", str(TEST))
    assert (ran.code, ran.document["verdict"]) == (0, "PASS"), ran.stderr
    assert "\x1b" not in ran.stderr + ran.stdout
    for log in (out / "console" / HOST).iterdir():
        assert log.stat().st_size < _LOG_MIB << 20, log
    page = (out / "report.html").read_text()
    assert Scripts(page).found == 0 and "\x1b" not in page
    assert machines(HOST) == []
