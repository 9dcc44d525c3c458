# SPDX-License-Identifier: GPL-2.0-or-later
"""The README shows a lab.yaml of servers that is one."""

from __future__ import annotations

import re
from pathlib import Path

from harness.config.lab import load_lab
from harness.config.physical import PhysicalHost

_README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_three_servers_are_a_lab_file(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", _README, re.DOTALL)
    (tmp_path / "lab.yaml").write_text(example)
    servers = [host for host in load_lab(tmp_path / "lab.yaml").values() if host.name != ""]
    found = {host.name: host for host in servers if isinstance(host, PhysicalHost)}
    assert {name: host.console.driver for name, host in found.items()} == {
        "dell-r650": "ipmi-sol",
        "supermicro-x11": "ipmi-sol",
        "ampere-altra": "tcp",
    }
