# SPDX-License-Identifier: GPL-2.0-or-later
"""The files to copy: systemd accepts the units, and our command line accepts each command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.nightly import command

IMAGES = Path(__file__).parents[2] / "images" / "nightly"
UNITS = [*sorted(IMAGES.glob("*.service")), *sorted(IMAGES.glob("*.timer"))]


def _verify(folder: Path, *units: Path) -> str:
    said = subprocess.run(
        ["systemd-analyze", "verify", *(str(folder / unit.name) for unit in units)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
    )
    return said.stdout + said.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    program = tmp_path / "evtchn-harness"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        text = re.sub(r"/opt/\S+/evtchn-harness", str(program), unit.read_text())
        (tmp_path / unit.name).write_text(text)
    assert _verify(tmp_path, *UNITS) == ""
    broken = tmp_path / "evtchn-nightly.service"
    broken.write_text(broken.read_text().replace("TimeoutStopSec", "TimeoutStopSecs"))
    assert "TimeoutStopSecs" in _verify(tmp_path, broken)  # it does look


def _commands(text: str) -> list[list[str]]:
    """Return the words after ``evtchn-harness nightly`` of every call in ``text``."""
    calls = re.findall(r"evtchn-harness nightly ([^>;|&\n]*)", text)
    return [[word for word in shlex.split(call) if word not in ("2",)] for call in calls]


@pytest.mark.parametrize("file", sorted(IMAGES.iterdir()), ids=lambda path: path.name)
def test_every_call_is_one_that_the_command_line_takes(file: Path) -> None:
    calls = _commands(file.read_text())
    assert bool(calls) is (file.suffix != ".timer")
    for words in calls:
        context = command.make_context("nightly", words)
        assert context.params["plan_file"].name == "plan.yaml"
        assert context.params["home"].parts


def test_gitlab_passes_every_store_to_the_last_job() -> None:
    jobs: dict[str, Any] = yaml.safe_load((IMAGES / "gitlab-ci.yml").read_text())
    (matrix,) = jobs["night"]["parallel"]["matrix"]
    (night,) = jobs["night"]["script"]
    (morning,) = jobs["morning"]["script"]
    assert "--store shards/$HOST" in night
    collected = re.findall(r"--collect (\S+)", morning)
    assert collected == [f"shards/{host}" for host in matrix["HOST"]]
    assert jobs["morning"]["needs"] == [{"job": "night", "artifacts": True}]
    assert "shards" in jobs["night"]["artifacts"]["paths"]
