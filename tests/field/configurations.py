# SPDX-License-Identifier: GPL-2.0-or-later
"""Pieces of lab.yaml, put into a lab file that is right otherwise."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.arch import Arch
from harness.config.lab import load_lab
from harness.config.physical import PhysicalHost
from harness.machine import grub
from harness.verdict import ConfigError
from tests.field.case import Case
from tests.machine.test_grub import SYSTEM

_LAB = """\
hosts:
  rack-1:
    kind: physical
    arch: x86_64
    power: [{driver: command, turn_on: ["true"], turn_off: ["true"]}]
    console: {driver: tcp, address: console-server, port: 4001}
    ssh: {address: 192.0.2.9, key_file: id, host_key: ssh-ed25519 AAAA}
"""


def judge(case: Case, folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Judge a power driver, or a section ``boot`` whose words go into GRUB's entry."""
    lab = yaml.safe_load(_LAB)
    piece = yaml.safe_load(case.text)
    lab["hosts"]["rack-1"].update(piece if "driver" not in piece else {"power": [piece]})
    (folder / "lab.yaml").write_text(yaml.safe_dump(lab))
    if "ConfigError:" in case.wanted:
        with pytest.raises(ConfigError) as caught:
            load_lab(folder / "lab.yaml")
        lines = str(caught.value).splitlines()
        assert len(lines) == 1, lines
        told = re.search(r"ConfigError: ([^(,]+)", case.wanted)
        said = lines[0].replace(": ", " ")  # the field's name is part of the place
        assert told is not None and told[1].strip() in said, lines
        return
    try:
        host = load_lab(folder / "lab.yaml")["rack-1"]
        assert isinstance(host, PhysicalHost)
        lines = grub.entry(Arch.X86_64, SYSTEM, xen_args=host.boot.xen_args, dom0_args="")
    except ConfigError:
        assert not case.wanted.startswith("loads")
        return
    _has_valid_syntax(lines, host.boot.xen_args, folder)


def _has_valid_syntax(lines: list[str], xen_args: str, folder: Path) -> None:
    """GRUB takes the entry, and a shell (whose quotes GRUB's are) reads the words from it."""
    script = folder / "entry.cfg"
    script.write_text("menuentry 'x' {\n" + "\n".join(lines) + "\n}\n")
    if shutil.which("grub-script-check"):
        subprocess.run(["grub-script-check", script], check=True)
    (xen,) = [line for line in lines if line.startswith("multiboot2 ")]
    said = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {xen}"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\n")[3:-1] == xen_args.split()
