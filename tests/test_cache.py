# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache: whole entries or none, made once, whoever is killed in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import cache
from harness.run import doctor
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


# What another user could have put there.  Only root can give files away, so some of these attacks
# are tried only as root.

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
SOMEBODY = 4242


def _planted(own_cache: Path) -> Path:
    """Return an entry that was made before we came, as an attacker would plant it."""
    entry = own_cache / "dom0" / "name"
    entry.mkdir(parents=True)
    (entry / "vmlinux").write_text("evil")
    return entry


def _refused() -> LabError:
    def make(folder: Path) -> None:
        (folder / "vmlinux").write_text("good")

    with pytest.raises(LabError) as caught:
        cache.entry("dom0", "name", make)
    assert len(str(caught.value).splitlines()) == 1
    assert cache.ENVIRONMENT in caught.value.hint
    return caught.value


@AS_ROOT
@pytest.mark.parametrize("what", ["", "dom0", "dom0/name", "dom0/name/vmlinux"])
def test_what_belongs_to_somebody_else_is_refused(own_cache: Path, what: str) -> None:
    _planted(own_cache)
    os.chown(own_cache / what, SOMEBODY, SOMEBODY)
    said = _refused()
    assert said.where == str(own_cache / what)
    assert said.what == "not safe to use: it belongs to user 4242, and you are root (user 0)"


@pytest.mark.parametrize("what", ["", "dom0", "dom0/name", "dom0/name/vmlinux"])
def test_what_everybody_can_write_is_refused(own_cache: Path, what: str) -> None:
    _planted(own_cache)
    (own_cache / what).chmod(0o1777)  # sticky: others could not replace it, but add to it
    said = _refused()
    assert (said.where, said.what) == (
        str(own_cache / what),
        "not safe to use: it can be written by everybody",
    )


@AS_ROOT
def test_what_another_group_can_write_is_refused(own_cache: Path) -> None:
    os.chown(_planted(own_cache), 0, SOMEBODY)
    (own_cache / "dom0/name").chmod(0o775)
    assert _refused().what == "not safe to use: it can be written by the group 4242"
    os.chown(own_cache / "dom0/name", 0, 0)
    assert cache.entry("dom0", "name", lambda folder: None), "ours may: umask 002"


@pytest.mark.parametrize("what", ["dom0", "dom0/name"])
def test_a_link_in_the_place_of_a_shelf_or_an_entry_is_refused(own_cache: Path, what: str) -> None:
    elsewhere = own_cache.parent / "elsewhere"
    _planted(own_cache)
    (own_cache / what).rename(elsewhere)
    (own_cache / what).symlink_to(elsewhere)
    assert _refused().what == "not safe to use: it is a symbolic link"


def test_a_link_to_the_whole_cache_is_followed_if_it_is_ours(own_cache: Path) -> None:
    disk = own_cache.parent / "disk"
    disk.mkdir()
    own_cache.symlink_to(disk)
    assert cache.entry("dom0", "name", lambda folder: None) == own_cache / "dom0/name"
    disk.chmod(0o777)
    assert _refused().where == str(own_cache)


def test_a_cache_below_a_directory_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could put another one in its place; not in /tmp, which is sticky."""
    below = tmp_path / "open"
    below.mkdir()
    monkeypatch.setenv(cache.ENVIRONMENT, str(below / "x" / "cache"))
    below.chmod(0o777)
    assert _refused().where == str(below)
    below.chmod(0o1777)
    assert cache.entry("dom0", "name", lambda folder: None)


@AS_ROOT
def test_roots_cache_may_be_read_by_everybody(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = _planted(own_cache)
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    assert cache.entry("dom0", "name", lambda folder: None) == entry


def test_nobody_else_can_write_what_we_make_whatever_the_umask(own_cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "file").write_text("x")
        (folder / "program").touch(0o777)
        (folder / "folder").mkdir()

    before = os.umask(0)
    try:
        entry = cache.entry("a/kind", "name", make)
    finally:
        os.umask(before)
    paths = [own_cache, own_cache / "a", own_cache / "a/kind", entry, *entry.iterdir()]
    assert [path for path in paths if path.stat().st_mode & 0o022] == []
    assert os.access(entry / "program", os.X_OK)
    assert cache.entry("a/kind", "name", make) == entry


def test_the_examination_costs_next_to_nothing(own_cache: Path) -> None:
    for number in range(20):
        cache.entry("kind", str(number), lambda folder: (folder / "file").touch())
    began = time.thread_time()  # other threads and programs do not count
    for number in range(20):
        cache.entry("kind", str(number), lambda folder: None)
    assert time.thread_time() - began < 0.1  # measured: 3 ms


def test_the_doctor_says_whether_the_cache_is_safe(own_cache: Path) -> None:
    check = doctor._cache()
    assert (check.ok, check.detail) == (True, f"{own_cache}: nobody else can write it")
    _planted(own_cache)
    assert doctor._cache().ok
    (own_cache / "dom0").chmod(0o777)
    check = doctor._cache()
    assert not check.ok and "can be written by everybody" in check.detail
    assert cache.ENVIRONMENT in check.mend


def test_an_entry_that_is_deleted_while_it_is_examined_is_made_again(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries are safe to delete at any time, also by another run."""
    entry = _planted(own_cache)
    scandir = os.scandir

    def late(path: Path) -> object:
        monkeypatch.setattr(os, "scandir", scandir)
        shutil.rmtree(entry)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", late)
    made = cache.entry("dom0", "name", lambda folder: (folder / "new").touch())
    assert [path.name for path in made.iterdir()] == ["new"]
