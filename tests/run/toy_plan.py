# SPDX-License-Identifier: GPL-2.0-or-later
"""A plan of which nothing is built or booted."""

from __future__ import annotations

from pathlib import Path

from harness.config.physical import Host
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.source import Source
from harness.run.plan import Hypervisor, Plan


def plan(*hosts: Host, keep: bool = False) -> Plan:
    """Return a plan for ``hosts`` and a hypervisor that is nowhere."""
    source = Source("dir", Path("/nowhere"), "4.17.9", (4, 17), "")
    xen = Hypervisor(source=source, flavour=Flavour("rwlock", ()))
    return Plan(hosts=hosts, hypervisor=xen, keep=keep)
