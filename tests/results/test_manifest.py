# SPDX-License-Identifier: GPL-2.0-or-later
"""manifest.json: what this machine and these programs really are."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from harness import __version__
from harness.config.host import BUILT_IN
from harness.results.directory import RunDirectory, create
from harness.results.manifest import Ingredient, environment, read_manifest, write_manifest

_TOP = Path(__file__).parents[2]


def _git(*words: str) -> str:
    return subprocess.check_output(["git", "-C", str(_TOP), *words], text=True).strip()


def test_the_environment_is_this_one() -> None:
    found = environment()
    assert found["harness"]["version"] == __version__
    assert found["python"]["version"] == platform.python_version()
    for name in ("pydantic", "pytest"):
        assert found["python"]["packages"][name] == importlib.metadata.version(name)
    machine = found["machine"]
    assert machine["kernel"] == f"Linux {os.uname().release}"
    assert machine["cpus"] == os.cpu_count()
    assert machine["memory_mib"] > 0
    assert machine["processor"]


def test_programs_say_their_version_and_missing_ones_are_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "make").write_text("#!/bin/sh\necho 'My Make 7'; echo more\n")
    (tmp_path / "ccache").write_text("#!/bin/sh\nexit 1\n")
    for tool in tmp_path.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    programs = environment()["programs"]
    assert programs["make"] == "My Make 7"
    assert programs["ccache"] == "unknown"
    monkeypatch.setenv("PATH", "/nowhere")
    assert environment()["programs"]["make"] is None


@pytest.mark.skipif(not (_TOP / ".git").exists(), reason="not a git checkout")
def test_the_commit_of_the_checkout_is_there() -> None:
    found = environment()["harness"]
    assert found["commit"] == _git("rev-parse", "HEAD")
    assert isinstance(found["modified"], bool)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    ingredient = Ingredient("build", "xen", "4.17", "sha256:00", {"compiler": "gcc 12"})
    host = BUILT_IN["qemu-arm64"]
    write_manifest(directory, seed=3, argv=("a",), hosts=[host], ingredients=[ingredient])
    found = read_manifest(directory)
    assert (found["seed"], found["argv"]) == (3, ["a"])
    assert found["hosts"]["qemu-arm64"]["memory_mib"] == host.memory_mib
    (entry,) = found["ingredients"]
    assert entry == {
        "what": "build",
        "name": "xen",
        "version": "4.17",
        "digest": "sha256:00",
        "detail": {"compiler": "gcc 12"},
    }
    assert set(found) == {
        "seed",
        "argv",
        "hosts",
        "ingredients",
        "harness",
        "python",
        "programs",
        "machine",
    }


def test_it_can_be_written_again_as_more_is_known(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    for seed in (1, 2):
        write_manifest(directory, seed=seed, argv=(), hosts=[], ingredients=[])
    assert json.loads(directory.manifest.read_text())["seed"] == 2


@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_a_missing_or_damaged_manifest_is_an_empty_one(tmp_path: Path, content: str | None) -> None:
    directory = RunDirectory(tmp_path)
    if content is not None:
        directory.manifest.write_text(content)
    assert read_manifest(directory) == {}
