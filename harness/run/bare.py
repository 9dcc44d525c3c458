"""The bare guest (guests/bare) on a booted host: started when a test first asks for it."""

from __future__ import annotations

from harness.agent.client import AgentClient
from harness.arch import Arch
from harness.domains.toolstack import DomU, DomUBoot
from harness.run.session import PAYLOAD, Session, on_line
from harness.verdict import LabError

NAME = "bare"
VCPUS = 2  # guests/bare/xen.h
_MEMORY_MIB = 32
_TYPES = {Arch.X86_64: "pvh", Arch.ARM64: "arm"}


def start_bare(live: Session) -> tuple[DomU, AgentClient]:
    """Start the bare guest, wait for its first answer, and return both.

    LabError when the machine has no line left to it, or the guest does not come up.
    """
    if live.saved:
        raise LabError("no bare guest in a machine that is to be restored", where=live.host.name)
    boot = DomUBoot(
        f"{PAYLOAD}/bare",
        "",
        "",
        type=_TYPES[live.host.arch],
        memory_mib=_MEMORY_MIB,
        vcpus=VCPUS,
        template="bare",
    )
    domu = live.toolstack.start(NAME, live.host.arch, boot, live.console)
    live.guests.append(domu)
    line = live.machine.lines[1 + live.host.domus]
    live.dom0.run(on_line(line.name, [f"{PAYLOAD}/agent", "relay", "--domid", str(domu.domid)]))
    agent = AgentClient(line, NAME)
    agent.hello()
    return domu, agent


def end_bare(live: Session, domu: DomU) -> None:
    """Destroy the guest; its line is free again once the relay has seen it go."""
    live.toolstack.expect_end(domu.name)
    live.guests.remove(domu)
    domu.destroy()
