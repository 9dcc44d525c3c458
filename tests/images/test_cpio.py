# SPDX-License-Identifier: GPL-2.0-or-later
"""Our cpio archives as the real cpio reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.images import cpio

MEMBERS: dict[str, cpio.Member] = {
    "init": cpio.File(b"#!/bin/sh\n", 0o755),
    "empty": cpio.File(b""),
    "odd-length": cpio.File(b"12345", 0o600),
    "a/deep/folder/file": cpio.File(b"x" * 4097),
    "a/link": cpio.Link("deep/folder/file"),
    "proc": cpio.Folder(0o555),
}


def _cpio(archive: bytes, *words: str, cwd: Path | None = None) -> str:
    program = shutil.which("cpio")
    if program is None:
        pytest.skip("cpio is not installed")
    done = subprocess.run(
        [program, "--quiet", *words], input=archive, cwd=cwd, check=True, capture_output=True
    )
    assert done.stderr == b""
    return done.stdout.decode()


def test_cpio_lists_members_after_their_folders() -> None:
    names = _cpio(cpio.archive(MEMBERS), "-t").split()
    assert sorted(names) == sorted([*MEMBERS, "a", "a/deep", "a/deep/folder"])
    assert names.index("a") < names.index("a/deep") < names.index("a/deep/folder/file")


def test_cpio_says_modes_and_owners() -> None:
    lines = _cpio(cpio.archive(MEMBERS), "-tv", "--numeric-uid-gid").splitlines()
    modes = {line.split()[8]: line.split()[0] for line in lines}
    assert modes["init"] == "-rwxr-xr-x"
    assert modes["odd-length"] == "-rw-------"
    assert modes["proc"] == "dr-xr-xr-x"
    assert modes["a/link"].startswith("l")
    assert {tuple(line.split()[2:4]) for line in lines} == {("0", "0")}


def test_cpio_extracts_what_was_put_in(tmp_path: Path) -> None:
    _cpio(cpio.archive(MEMBERS), "-id", cwd=tmp_path)
    for name, member in MEMBERS.items():
        match member:
            case cpio.File(content, mode):
                assert (tmp_path / name).read_bytes() == content
                assert (tmp_path / name).stat().st_mode & 0o777 == mode
            case cpio.Link(target):
                assert (tmp_path / name).readlink() == Path(target)
            case cpio.Folder():
                assert (tmp_path / name).is_dir()


def test_content_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    from_file = cpio.archive({"x": cpio.File(tmp_path / "source")})
    assert from_file == cpio.archive({"x": cpio.File(b"content")})


def test_equal_input_gives_equal_bytes_whatever_the_order() -> None:
    backwards = dict(reversed(MEMBERS.items()))
    assert cpio.archive(MEMBERS) == cpio.archive(backwards)


def test_archives_can_follow_each_other() -> None:
    assert len(cpio.archive(MEMBERS)) % 512 == 0


@pytest.mark.parametrize("name", ["/absolute", "up/../../x", "", "."])
def test_paths_stay_below_the_root(name: str) -> None:
    with pytest.raises(ValueError, match="not a path below the root"):
        cpio.archive({name: cpio.File(b"")})
