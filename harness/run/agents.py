# SPDX-License-Identifier: GPL-2.0-or-later
"""Start the agents of a booted host, and connect to them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from harness.agent.client import AgentClient
from harness.agent.wire import AgentGarbled
from harness.domains.dom0 import Dom0
from harness.domains.toolstack import DomU
from harness.machine import Machine
from harness.machine.line import Line

PAYLOAD = "/run/harness"  # in dom0: guests/dom0/stage1 puts the payload there


def start(machine: Machine, dom0: Dom0, domus: Sequence[DomU]) -> list[Line]:
    """Start dom0's agent and, for each of ``domus``, the relay in dom0 to the domU's agent; return
    the lines to them, dom0's first."""
    agent = f"{PAYLOAD}/agent"
    programs = {"dom0": [agent, "serve"]} | {
        domu.name: [agent, "relay", "--domid", str(domu.domid)] for domu in domus
    }
    if not machine.lines:
        return [Line(dom0.channel(words), f"agent of {name}") for name, words in programs.items()]
    for line, words in zip(machine.lines, programs.values(), strict=False):
        dom0.run(on_line(line.name, words))
    return machine.lines


def greet(
    domids: Mapping[str, int], lines: Sequence[Line], listen: Callable[[Line], None]
) -> dict[str, AgentClient]:
    """Return a client for the agent on each of ``lines``, after it has answered; ``listen`` is
    called with each line before.

    ``domids``: of their domains, by name.  AgentGarbled if an agent says that it is in another
    domain: what it records would be taken for that one's.
    """
    agents = {}
    for (name, domid), line in zip(domids.items(), lines, strict=False):
        listen(line)
        agents[name] = AgentClient(line, name, line.clock)
        if (said := agents[name].hello().domid) != domid:
            what = f"the agent says that it is in domain {said}, and its domain is {domid}"
            raise AgentGarbled(what, where=name)
    return agents


def end(lines: Sequence[Line]) -> None:
    """Close the lines: the agents then close their ports and unmap each other's pages."""
    for line in lines:
        line.hang_up()


def operations(agents: Mapping[str, AgentClient]) -> dict[str, int]:
    """Return how many single operations vCPU 0 of each agent has made.

    After a restore the number is again that of the snapshot; so it shows that the restore worked.
    A clock would not: under TCG a restore does not set back the TSC of x86 (seen with QEMU 7.2).
    """
    collected = {name: agent.collect(0) for name, agent in agents.items()}
    return {name: len(each.records) + each.lost for name, each in collected.items()}


def on_line(line: str, words: list[str]) -> str:
    """Return a command that leaves ``words`` running with the virtio port ``line`` as stdin
    and stdout.  (The links in /dev/virtio-ports are udev's, which dom0 has not.)"""
    find = f'for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name)" != {line} ] || break; done'
    start = f"exec {shlex.join(words)} <>/dev/${{p##*/}} >&0 2>/dev/console"
    return f"setsid sh -c {shlex.quote(f'{find}; {start}')} </dev/null >/dev/null 2>&1 &"
