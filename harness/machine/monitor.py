# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor of QEMU, through libvirt."""

from __future__ import annotations

import json
from typing import Any

import libvirt
import libvirt_qemu

from harness.verdict import LabError


def ask(domain: libvirt.virDomain, line: str, cpu: int = 0) -> str:
    """Return what QEMU's monitor answers to ``line``; LabError when it does not answer."""
    words = {
        "execute": "human-monitor-command",
        "arguments": {"command-line": line, "cpu-index": cpu},
    }
    try:
        answer: dict[str, Any] = json.loads(
            libvirt_qemu.qemuMonitorCommand(domain, json.dumps(words), 0)
        )
    except (libvirt.libvirtError, ValueError) as error:
        raise LabError(f"QEMU's monitor does not answer: {error}", where=domain.name()) from error
    return str(answer.get("return", ""))


def obey(domain: libvirt.virDomain, line: str, problem: str) -> None:
    """Have the monitor do ``line``; LabError with ``problem`` if it answers: it has failed."""
    said = ask(domain, line).strip()
    if said:
        raise LabError(f"{problem}: {said.splitlines()[-1]}", where=domain.name())
