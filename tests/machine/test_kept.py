# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines in the cache: a damaged, stale or half-written one is never used."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cache
from harness.machine import kept
from harness.verdict import LabError

DISK = os.urandom(1 << 16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


def saved(tmp_path: Path) -> Callable[[Path], str]:
    source = tmp_path / "disk"
    source.write_bytes(DISK)
    return lambda target: kept.copied(source, target)


def test_what_was_kept_is_found_with_its_facts_and_its_disk(tmp_path: Path) -> None:
    kept.keep("k", {"domus": ["domu1"]}, saved(tmp_path))
    found = kept.find("k")
    assert found is not None and found.facts == {"domus": ["domu1"]}
    found.copy(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DISK
    assert kept.find("other") is None


def _flip(disk: Path) -> None:
    data = bytearray(disk.read_bytes())
    data[len(data) // 2] ^= 1
    disk.write_bytes(data)


def _cut(disk: Path) -> None:
    disk.write_bytes(disk.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flip, _cut])
def test_a_damaged_disk_is_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = kept.keep("k", {}, saved(tmp_path))
    damage(folder / "root.qcow2")
    found = kept.find("k")
    assert found is not None
    with pytest.raises(LabError, match="damaged"):
        found.copy(tmp_path / "copy")
    found.discard()
    assert kept.find("k") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"when": 1, "sha256": "", "facts": 3}'])
def test_what_cannot_be_read_is_removed(tmp_path: Path, text: str) -> None:
    folder = kept.keep("k", {}, saved(tmp_path))
    (folder / "about.json").write_text(text)
    assert kept.find("k") is None
    assert not folder.exists()


def test_an_old_one_is_removed(tmp_path: Path) -> None:
    folder = kept.keep("k", {}, saved(tmp_path))
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps(about | {"when": time.time() - 8 * 86400}))
    assert kept.find("k") is None
    assert not folder.exists()


def test_one_that_another_user_could_have_written_is_refused(tmp_path: Path) -> None:
    folder = kept.keep("k", {}, saved(tmp_path))
    (folder / "root.qcow2").chmod(0o666)
    found = kept.find("k")
    assert found is not None
    with pytest.raises(LabError, match="not safe to use"):
        found.copy(tmp_path / "copy")


def test_nothing_is_left_of_one_that_could_not_be_saved(tmp_path: Path, own_cache: Path) -> None:
    def fails(target: Path) -> str:
        target.write_bytes(DISK[:100])
        raise OSError(28, "No space left on device", str(target))

    with pytest.raises(LabError, match="No space left"):
        kept.keep("k", {}, fails)
    assert kept.find("k") is None
    assert [path for path in (own_cache / "machine").rglob("*") if path.is_file()] in (
        [],
        [own_cache / "machine/.k.lock"],
    )


def test_only_those_that_were_used_last_stay(tmp_path: Path) -> None:
    for number in range(9):
        folder = kept.keep(f"k{number}", {}, saved(tmp_path))
        os.utime(folder / "about.json", (number, number))
    assert [n for n in range(9) if kept.find(f"k{n}")] == [3, 4, 5, 6, 7, 8]
