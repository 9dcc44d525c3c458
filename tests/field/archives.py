# SPDX-License-Identifier: GPL-2.0-or-later
"""apt's source lists: read by our parsers; where apt itself is asked, by the machine's apt."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from harness import cache
from harness.apt import archives
from harness.apt.archives import Archive, Release
from harness.apt.root import open_root
from tests.field.case import Case
from tests.served import serve
from tests.test_apt import SUITE, Mirror, _Quiet

_BOOKWORM, _TRIXIE = Release("debian", "bookworm"), Release("debian", "trixie")


def judge(case: Case, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Judge which archives the distribution's packages are taken from."""
    parse = archives.parse_deb822 if case.path.suffix == ".sources" else archives.parse_one_line
    found = parse(case.text)
    if "parse_deb822: one entry" in case.wanted:
        assert len(found) == 1
    elif "does not stop open_root" in case.wanted:
        _opens(case.text, folder, patch)
    elif "own(): only bookworm" in case.wanted:
        assert _suites(archives.own(found, _BOOKWORM, "amd64")) == {"bookworm"}
    else:
        asked = re.search(r"of_release\(own, trixie, bookworm\): (\S+) and (\S+)", case.wanted)
        assert asked is not None, f"no judge for {case.wanted}"
        own = archives.own(found, _TRIXIE, "amd64")
        there = archives.of_release(own, _TRIXIE, _BOOKWORM)
        assert _suites(there) == set(asked.groups())
        assert {uri for one in there for uri in one.uris} == {u for one in found for u in one.uris}


def _suites(found: list[Archive]) -> set[str]:
    return {suite for archive in found for suite in archive.suites}


def _opens(text: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The archive mirror.example is one of ours; nobody listens at the others' addresses."""
    mirror = Mirror(folder / "mirror")
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    handler = functools.partial(_Quiet, directory=str(mirror.root))
    with serve(handler) as ours:
        text = re.sub(r"http://mirror\.example/debian(-security)?", ours, text)
        text = re.sub(r"http://(?!127)[\w.]+", "http://127.0.0.2:1", text).replace(
            "bookworm", SUITE
        )
        text = re.sub(r"^deb http", "deb [trusted=yes] http", text, flags=re.MULTILINE)
        (folder / "sources").mkdir()
        (folder / "sources/test.list").write_text(text)
        conf = f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{folder}/sources";\n'
        conf += 'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n'
        conf += 'Acquire::http::Proxy::127.0.0.2 "DIRECT";\n'  # where nobody is
        (folder / "apt.conf").write_text(conf)
        patch.setenv("APT_CONFIG", str(folder / "apt.conf"))
        patch.setenv(cache.ENVIRONMENT, str(folder / "cache"))
        notices: list[str] = []
        root = open_root("amd64", types="deb", notice=notices.append)
        assert "tool" in root.apt("apt-cache", "show", "tool")
        assert any("127.0.0.2:1" in notice for notice in notices), notices
