# SPDX-License-Identifier: GPL-2.0-or-later
"""The man page, and completion in a shell: made of the commands as they are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import harness
from harness.cli import COMMANDS, cli
from harness.cli.man import page


def _commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, context)


def test_the_page_has_every_option() -> None:
    text = page().replace("\\-", "-")
    for command in _commands(cli, click.Context(cli)):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert max(parameter.opts, key=len) in text
    assert [name for name in COMMANDS if f'.SS "{name} [OPTIONS]' not in text] == []


def test_the_page_has_every_variable_of_the_environment() -> None:
    sources = Path(harness.__file__).parent.rglob("*.py")
    named = {
        name for path in sources for name in re.findall(r"EVTCHN_HARNESS_\w+", path.read_text())
    }
    assert named <= set(re.findall(r"EVTCHN_HARNESS_\w+", page()))


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not here")
def test_groff_has_nothing_to_say_about_it() -> None:
    words = ["groff", "-man", "-ww", "-Tutf8"]
    ran = subprocess.run(words, input=page(), capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert "NAME" in ran.stdout and "\\&" not in ran.stdout


def _completed(*words: str) -> list[str]:
    asked = {
        "COMP_WORDS": " ".join(("evtchn-harness", *words)),
        "COMP_CWORD": str(len(words)),
        "_EVTCHN_HARNESS_COMPLETE": "bash_complete",
    }
    program = [sys.executable, "-m", "harness.cli"]
    ran = subprocess.run(
        program, env=os.environ | asked, capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in ran.stdout.splitlines()]


def test_a_shell_completes_commands_and_options() -> None:
    assert _completed("") == list(COMMANDS)
    assert _completed("bis") == ["bisect"]
    assert _completed("run", "--sna") == ["--snapshot"]
    assert _completed("model", "check", "--memory", "a") == ["arm"]


def test_commands_are_completed_without_their_imports() -> None:
    said = (
        "from harness.cli import cli; import click, sys; cli.shell_complete(click.Context(cli), '')"
    )
    said += "; print(*(name for name in sys.modules if name.startswith('harness.cli.')))"
    ran = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
