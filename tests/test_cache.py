# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: whole entries or none, made once, whoever is killed in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import cache
from harness.verdict import LabError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.ENVIRONMENT, str(folder))
    return folder


def test_an_entry_is_made_once_and_found_afterwards(own_cache: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("body")

    first = cache.entry("kind", "name", make)
    assert first == own_cache / "kind" / "name" == cache.entry("kind", "name", make)
    assert (first / "file").read_text() == "body"
    assert len(made) == 1
    assert made[0] != first  # built beside, then renamed


def test_a_failed_make_leaves_nothing_and_its_own_exception(own_cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cache.entry("kind", "name", make)
    assert [path.name for path in (own_cache / "kind").iterdir()] == [".name.lock"]


def test_threads_that_want_the_same_entry_make_it_once() -> None:
    made: list[int] = []

    def make(folder: Path) -> None:
        made.append(threading.get_ident())
        time.sleep(0.1)

    threads = [threading.Thread(target=cache.entry, args=("k", "n", make)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1


_BUILDER = """
import sys, time
from pathlib import Path
from harness import cache
def make(folder):
    (folder / "half").write_text("x")
    print("building", flush=True)
    time.sleep(float(sys.argv[1]))
    (folder / "whole").write_text("x")
cache.entry("kind", "name", make)
print("done", flush=True)
"""


def _builder(seconds: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _BUILDER, str(seconds)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_it_once() -> None:
    builders = [_builder(0.3), _builder(0.3)]
    said = "".join(builder.communicate(timeout=20)[0] for builder in builders)
    assert said.count("building") == 1
    assert said.count("done") == 2


def test_a_killed_builder_leaves_no_entry_no_lock_and_no_litter(own_cache: Path) -> None:
    builder = _builder(60)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "building\n"
    builder.send_signal(signal.SIGKILL)
    builder.wait(10)
    builder.stdout.close()
    assert not (own_cache / "kind" / "name").exists()
    entry = cache.entry("kind", "name", lambda folder: (folder / "mine").touch())
    assert [path.name for path in entry.iterdir()] == ["mine"]
    assert sorted(p.name for p in (own_cache / "kind").iterdir()) == [".name.lock", "name"]


def test_a_full_disk_says_where_and_what_to_do(own_cache: Path) -> None:
    def make(folder: Path) -> None:
        Path("/dev/full").write_text("x")

    with pytest.raises(LabError) as caught:
        cache.entry("dom0", "name", make)
    assert caught.value.what == "cannot make dom0 in the cache: No space left on device"
    assert caught.value.where == str(own_cache / "dom0")
    assert cache.ENVIRONMENT in caught.value.hint


def test_a_file_missing_elsewhere_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (tmp_path / "source").rename(folder / "x")

    with pytest.raises(LabError) as caught:
        cache.entry("k", "n", make)
    assert caught.value.where == str(tmp_path / "source")
    assert caught.value.hint == ""


def test_a_cache_that_cannot_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "file"))
    with pytest.raises(LabError, match="Not a directory"):
        cache.entry("k", "n", lambda folder: None)


def test_the_place_is_absolute_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compilers and dpkg run in other directories than we do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cache.ENVIRONMENT, "here")
    assert cache.root() == tmp_path / "here"
    monkeypatch.delenv(cache.ENVIRONMENT)
    assert cache.root().is_absolute()


def test_key_depends_on_every_part_and_on_where_parts_end() -> None:
    keys = [
        cache.key("a", "b"),
        cache.key("b", "a"),
        cache.key("ab"),
        cache.key("ab", ""),
        cache.key(["a", "b"]),
        cache.key({"a": "b"}),
        cache.key("a", 1),
        cache.key("a", "1"),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key({"x": 1, "y": 2}) == cache.key({"y": 2, "x": 1})
    assert all(len(key) == 32 for key in keys)


def _tree(base: Path) -> list[Path]:
    base.mkdir(exist_ok=True)
    (base / "plain").write_text("body")
    (base / "tool").write_text("#!/bin/sh")
    (base / "tool").chmod(0o755)
    (base / "link").symlink_to("plain")
    return sorted(base.iterdir())


def test_digest_of_files_does_not_depend_on_place_time_or_order(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    one, other = _tree(here), _tree(there)
    os.utime(there / "plain", (0, 0))
    (there / "plain").chmod(0o600)  # who may read it is no part of a build
    same = cache.digest_files(reversed(other), base=there)
    assert cache.digest_files(one, base=here) == same


@pytest.mark.parametrize(
    "change",
    [
        lambda base: (base / "plain").write_text("bodY"),
        lambda base: (base / "plain").chmod(0o755),
        lambda base: (base / "plain").rename(base / "renamed"),
        lambda base: ((base / "link").unlink(), (base / "link").symlink_to("tool")),
        lambda base: ((base / "link").unlink(), (base / "link").write_text("plain")),
    ],
    ids=["content", "mode", "name", "target", "link-becomes-file"],
)
def test_digest_of_files_sees_every_change_that_matters(tmp_path: Path, change: object) -> None:
    before = cache.digest_files(_tree(tmp_path / "t"), base=tmp_path / "t")
    assert callable(change)
    change(tmp_path / "t")
    after = sorted((tmp_path / "t").iterdir())
    assert cache.digest_files(after, base=tmp_path / "t") != before
