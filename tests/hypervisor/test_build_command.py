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
from tests.bisect.xen_history import git

from .mails import format_patch, make_repository
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
        "arch", "flavour", "flavour_from", "source", "version", "series", "model", "build_id",
        "image", "syms", "digest", "source_digest", "compiler", "seconds", "cached",
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


def test_a_mail_is_an_input(tree: Path, tmp_path: Path) -> None:
    """On a repository, and on the directory that its work tree is."""
    repository = make_repository(tmp_path / "repository")
    patch = format_patch(repository)[0]
    git(repository, "checkout", "-q", "base")
    sources = (("--xen-git", repository, "--xen-ref", "base"), ("--xen-src", repository))
    for number, source in enumerate(sources):
        done = build(tmp_path, "--arch", "x86_64", *source, "--series", patch, "--json")
        document = json.loads(done.stdout)
        assert document["series"] == [
            {
                "file": str(patch),
                "subject": "[PATCH 1/2] evtchn: send two",
                "tree": git(repository, "rev-parse", "main~1^{tree}"),
            }
        ]
        assert document["cached"] is bool(number)  # the same content is the same build
        assert document["model"] == {
            "name": "rwlock",
            "how": "recognised",
            "from": "rwlock_t lock in struct evtchn (xen/include/xen/sched.h:3)",
        }


def test_a_lock_that_nobody_knows_is_one_line(tree: Path, tmp_path: Path) -> None:
    sched = tree / "xen/include/xen/sched.h"
    sched.write_text(sched.read_text().replace("rwlock_t", "seqlock_t"))
    words = ("--arch", "x86_64", "--xen-src", tree)
    done = build(tmp_path, *words)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "--model" in done.stderr
    document = json.loads(build(tmp_path, *words, "--model", "spinlock", "--json").stdout)
    assert document["model"] == {"name": "spinlock", "how": "given", "from": "--model"}


def test_bad_input_is_one_line_and_exit_2(tree: Path, tmp_path: Path) -> None:
    source = ("--xen-src", tree)
    patch = format_patch(make_repository(tmp_path / "other"))[0]
    for words, says in (
        (("--arch", "x86_64", "--flavour", "nope", *source), "no flavour nope for Xen 4.17"),
        (("--arch", "x86_64", *source, "--xen-git", tree, "--xen-ref", "x"), "exclude each other"),
        (("--arch", "x86_64", "--xen-git", tree), "--xen-git needs --xen-ref"),
        (("--arch", "x86_64", "--xen-src", tmp_path), "not a Xen source tree"),
        (("--arch", "mips", *source), "mips"),
        (("--arch", "x86_64", *source, "--model", "ticket"), "--model"),
        (("--arch", "x86_64", *source, "--series", tmp_path / "no.eml"), "cannot read the series"),
        (("--arch", "x86_64", *source, "--series", tree / "Config.mk"), "no mail with a patch"),
        (("--arch", "x86_64", *source, "--series", patch), "does not apply to Xen 4.17.9"),
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
