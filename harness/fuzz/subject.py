# SPDX-License-Identifier: GPL-2.0-or-later
"""The booted host of a hunt, and the bare guest on it that makes the programmes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.agent.client import AgentClient
from harness.arch import Arch
from harness.conformance.host import HostDomains
from harness.fuzz.guest import ProgrammeGuest, dom0_beside
from harness.fuzz.rounds import dom0_of
from harness.model.evtchn.domain import Domain, GuestKind, World
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.up import session
from harness.verdict import ConfigError, HarnessError, LabError


@dataclass
class Subject:
    """A guest that has just been reset, and what the model knows of it."""

    live: Session
    agent: AgentClient
    domid: int
    world: World  # of the guest alone
    type: str  # as which it runs: arm, pvh, hvm, pv

    @property
    def guest(self) -> ProgrammeGuest:
        """The guest's end for programmes, with dom0's agent beside it."""
        dom0 = self.live.agents.get("dom0")
        return ProgrammeGuest(
            self.agent.connection, None if dom0 is None else dom0_beside(self.agent, dom0)
        )

    @property
    def dom0(self) -> Domain:
        """What the model knows of dom0 before a programme."""
        kind = GuestKind.PV if self.live.host.arch is Arch.X86_64 else GuestKind.ARM
        return dom0_of(kind, self.live.agents["dom0"].info.vcpus)

    def restore(self) -> None:
        """Restore the machine as it was with the guest just started, whatever has become of it.

        LabError on a server, which cannot be restored.
        """
        if not self.live.saved:
            raise LabError("the machine cannot be restored", where=self.live.host.name)
        self.live.restore()
        line = self.live.machine.lines[1 + self.live.host.domus]
        self.live.listen(line)
        self.agent = AgentClient(line, self.agent.name, line.clock)

    def fresh(self) -> tuple[ProgrammeGuest, World]:
        """Restore the machine; return the guest's end for programmes, and what it knows then."""
        self.restore()
        return self.guest, self.world


@contextmanager
def _explained(live: Session) -> Iterator[None]:
    """Raise the cause of what goes wrong in the block: Xen may die of the guest's first calls."""
    try:
        yield
    except HarnessError as error:
        cause = live.cause(error)
        if cause is error:
            raise
        raise cause from error


@contextmanager
def subject(plan: Plan, type_: str | None, recorder: Recorder) -> Iterator[Subject]:
    """Boot the plan's host without domUs and start the bare guest there, as ``type_``.

    None: the first type that the host can run.  ConfigError if it can run none so; raises what
    ``session`` raises.
    """
    host = plan.hosts[0].model_copy(update={"domus": 0})
    with session(plan, host, recorder) as live:
        domains = HostDomains(live)
        types = domains.bare_types
        if not types or (type_ or types[0]) not in types:
            why = domains.obstacles.get(type_ or "", f"there are {', '.join(types) or 'none'}")
            raise ConfigError(f"no bare guest {type_ or ''}: {why}", where=host.name)
        with recorder.phase(host.name, "domains"), _explained(live):
            bare = domains.bare(domains.begin(), type_ or types[0])
            if live.machine.lines:  # no server
                live.save()
        world = World((bare.now,), bare.domains.model.world.rules)
        yield Subject(live, bare.agent, bare.domid, world, bare.type)
