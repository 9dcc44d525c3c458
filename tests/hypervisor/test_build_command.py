# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness build`` as a user types it: JSON, exit codes, one line per error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cache

from .tree import make_tree

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "xen-tree")


def build(tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "build", *map(str, words)],
        env={**os.environ, cache.ENVIRONMENT: str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )


def test_json_is_one_object_with_the_documented_keys(tree: Path, tmp_path: Path) -> None:
    words = ("--arch", "arm64", "--flavour", "rwlock", "--xen-src", tree, "--json")
    first, second = (json.loads(build(tmp_path, *words).stdout) for _ in range(2))
    assert list(first) == [
        "arch", "flavour", "flavour_from", "source", "version", "build_id", "image", "syms",
        "digest", "source_digest", "compiler", "seconds", "cached",
    ]  # fmt: skip
    assert (first["arch"], first["flavour"], first["source"]) == ("arm64", "rwlock", "dir")
    assert first["version"] == "4.17.9"
    assert Path(first["image"]).is_file() and Path(first["syms"]).is_file()
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["build_id"] == first["build_id"]


def test_without_json_the_path_is_on_the_last_line(tree: Path, tmp_path: Path) -> None:
    done = build(tmp_path, "--arch", "x86_64", "--flavour", "rwlock", "--xen-src", tree)
    assert done.returncode == 0 and done.stderr == ""
    assert Path(done.stdout.splitlines()[-1]).is_file()


def test_bad_input_is_one_line_and_exit_2(tree: Path, tmp_path: Path) -> None:
    source = ("--xen-src", tree)
    for words, says in (
        (("--arch", "x86_64", "--flavour", "nope", *source), "no flavour nope for Xen 4.17"),
        (("--arch", "x86_64", *source, "--xen-git", tree, "--xen-ref", "x"), "exclude each other"),
        (("--arch", "x86_64", "--xen-git", tree), "--xen-git needs --xen-ref"),
        (("--arch", "x86_64", "--xen-src", tmp_path), "not a Xen source tree"),
        (("--arch", "mips", *source), "mips"),
        (("--arch", "x86_64", "--flavour", "counter", *source), "does not fit this tree"),
    ):
        done = build(tmp_path, *words)
        assert done.returncode == 2, (words, done.stderr)
        assert says in done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_tree_that_does_not_compile_is_exit_3(tree: Path, tmp_path: Path) -> None:
    (tree / "xen/main.c").write_text("int x = y;\n")
    done = build(tmp_path, "--arch", "x86_64", "--flavour", "rwlock", "--xen-src", tree)
    assert done.returncode == 3
    assert done.stderr.startswith("error: xen/main.c:1: ")
    assert len(done.stderr.splitlines()) == 1
    assert Path(done.stderr.split("see ")[1].strip()).is_file()
