# SPDX-License-Identifier: GPL-2.0-or-later
"""The domains of a booted host from test to test, and which rows each test has met there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

from harness.arch import Arch
from harness.conformance.bare import Bare, new_bare
from harness.conformance.cells import RELEASES, Scope, scope_of, why_not
from harness.conformance.guest import Domains, Guest
from harness.conformance.in_shim import InShim, new_in_shim
from harness.conformance.initial_state import linux_domain, xen_bound
from harness.conformance.reference_model import ReferenceModel, rows
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.close_reset import closed
from harness.model.evtchn.domain import Domain, GuestKind, State, World
from harness.model.evtchn.outcome import existing_domain
from harness.model.evtchn.rules import by_version
from harness.run.bare import NAME as BARE
from harness.run.bare import (
    TYPES,
    BareGuest,
    destroy_bare,
    end_bare,
    obstacles,
    start_bare,
)
from harness.run.session import SHIM, Session
from harness.verdict import HarnessError

_KINDS = {"pv": GuestKind.PV, "pvh": GuestKind.HVM, "hvm": GuestKind.HVM, "arm": GuestKind.ARM}
_DOM0 = {Arch.X86_64: GuestKind.PV, Arch.ARM64: GuestKind.ARM}


class HostDomains:
    """The domains of one booted host, and what the model knows of them, from test to test.

    The first test has Xen asked about every port; so has a test that follows a failed one.  Any
    other test begins with the state in which the one before has ended.  The bare guest is started
    when a test first asks for it.
    """

    def __init__(self, live: Session) -> None:
        self._live = live
        self._world: World | None = None  # of the Linux domains; None: Xen has to be asked
        self._bare: BareGuest | None = None
        self._bare_state: Domain | None = None

    def is_of(self, live: object) -> bool:
        """Say whether these are the domains of ``live``: a host may have been booted anew."""
        return self._live is live

    def begin(self) -> Domains:
        """Return the domains for a test, without the bare guest.

        Their model has the rules that were found for the Xen that was built.
        """
        live = self._live
        reached = (domu for domu in live.domus if domu.name in live.agents)
        types = {"dom0": "dom0"} | {domu.name: domu.type for domu in reached}
        if self._world is None:
            self._world = self._ask(types)
        own = self._world.rules
        others = tuple(by_version(release) for release in RELEASES if release != own.release)
        found = Domains(ReferenceModel(self._world, others=others))
        for name, type_ in types.items():
            found.add(Guest(found, live.agents[name], type_))
        found.before = self._world
        return found

    def end(self, domains: Domains, *, well: bool) -> None:
        """A test has ended, ``well`` or not: close what it has left open.

        Raises AssertionError when Xen does not report a port as closed.
        """
        bare = domains.guests.get(BARE)
        if not well:
            self._world = None
            self.end_bare()
            left = [f"{g.name}: {p}" for g in domains.linux() for p in g.agent.release()]
            assert left == [], "ports that Xen does not report as closed"
            return
        destroyed = bare is None and BARE in domains.model.names.values()
        domains.close_opened()
        if bare is not None:  # not before: its peers' ends have to be closed first
            spent = isinstance(bare, InShim) and bare.spent
            self._bare_state = None if spent else bare.now
        for guest in domains.linux():  # Linux may be given the numbers of closed ports now
            guest.agent.forget()
        world = domains.model.world
        linux = {guest.domid for guest in domains.linux()}
        self._world = replace(world, domains=tuple(d for d in world.domains if d.domid in linux))
        if destroyed:
            self.end_bare()
            self._world = None  # also if the test itself has ended it

    @property
    def bare_types(self) -> tuple[str, ...]:
        """The types of guest as which the bare one can boot on this host."""
        return tuple(one for one in TYPES[self._live.host.arch] if one not in self.obstacles)

    @cached_property
    def obstacles(self) -> dict[str, str]:
        """Why it cannot boot as the others, by type."""
        return obstacles(self._live)

    def bare(self, domains: Domains, type_: str) -> Bare:
        """Add the bare guest to ``domains``, reset; start it as ``type_`` if it does not run so."""
        runs = self._bare is not None and self._bare.domu.type == type_
        new = not runs or self._bare_state is None
        running, known = self._start(type_) if new else (self._bare, self._bare_state)
        assert running is not None and known is not None
        model = domains.model
        model.world = replace(model.world, domains=(*model.world.domains, known))
        kind = InShim if type_ == SHIM else Bare
        bare = kind(domains, running.agent, running.domu.type, linux=False)
        domains.add(bare)
        bare.begin()
        if new:
            domains.refresh()  # starting it has changed dom0's ports, and so has its reset
        return bare

    def destroy(self, bare: Bare) -> None:
        """Destroy the guest, of which dom0 still maps pages: so it stays in the state "dying"."""
        if self._bare is None:
            raise HarnessError("the bare guest does not run")
        destroy_bare(self._live, self._bare)
        model = bare.domains.model
        world = model.world
        for port, channel in bare.now.ports:
            if channel.state > State.RESERVED:
                world = closed(world, bare.domid, port)
        model.world = world.with_domain(replace(existing_domain(world, bare.domid), dying=True))
        del bare.domains.guests[bare.name]

    def end_bare(self) -> None:
        """Destroy the bare guest, if it runs."""
        if self._bare is not None:
            end_bare(self._live, self._bare)
            self._world = None  # daemons in dom0 have closed their ends: Xen has to be asked again
        self._bare = self._bare_state = None

    def _start(self, type_: str) -> tuple[BareGuest, Domain]:
        self.end_bare()
        running = self._bare = start_bare(self._live, type_)
        guest, dom0 = running.agent, self._live.agents["dom0"]
        if type_ == SHIM:
            known = self._bare_state = new_in_shim(guest)
            return running, known
        guest.connection.ask("reset", {"owner": DOMID_SELF})
        known = new_bare(
            running.domu.domid,
            _KINDS[running.domu.type],
            guest.info.vcpus,
            xen_bound(guest, dom0),
        )
        self._bare_state = known
        return running, known

    def _ask(self, types: dict[str, str]) -> World:
        agents, dom0 = self._live.agents, _DOM0[self._live.host.arch]
        kinds = {name: _KINDS.get(type_, dom0) for name, type_ in types.items()}
        described = tuple(linux_domain(agents[name], kind) for name, kind in kinds.items())
        return World(described, self._live.rules.rules)


def scope(guest: Guest, *, fifo: bool) -> Scope:
    """Return the scope in the catalogue that ``guest`` has with that ABI."""
    kind = "domU" if guest.type == "arm" else guest.type
    return _scope(guest.domains, kind, fifo=fifo)


def _scope(domains: Domains, kind: str, *, fifo: bool) -> Scope:
    arch = domains.guests["dom0"].agent.info.arch
    return scope_of(f"{arch} {kind}", "FIFO" if fifo else "2L", domains.model.world.rules)


def impossible(domains: Domains, type_: str, why: str) -> list[dict[str, Any]]:
    """Return records of kind "cells" which say ``why`` this host runs no guest of ``type_``."""
    places = [_scope(domains, type_, fifo=fifo) for fifo in (False, True)]
    return [{**_where(place), "rows": (), "why_not": why} for place in places]


def _where(place: Scope) -> dict[str, Any]:
    own = None if place.rules is None else tuple(sorted(place.rules.held))
    return {
        "guest": place.guest,
        "abi": place.abi,
        "release": str(place.release),
        "rules": own,
    }


def declared_but_unseen(domains: Domains, wanted: Iterable[str]) -> list[str]:
    """Return the rows of ``wanted`` that no domain has met, although one of them can meet it."""
    seen = {exercised.row for exercised in domains.model.exercised}
    places = [
        scope(guest, fifo=fifo)
        for guest in domains.guests.values()
        for fifo in {e.fifo for e in domains.model.exercised if e.domid == guest.domid}
    ]
    return [
        row
        for row in wanted
        if row not in seen and any(not why_not(row, place) for place in places)
    ]


def scopes(domains: Domains) -> list[dict[str, Any]]:
    """Return the rows that each domain has met, as records of kind "cells" for the journal."""
    met = []
    for guest in domains.guests.values():
        for fifo in (False, True):
            there = rows(domains.model.exercised, guest.domid, fifo)
            if there:
                met.append(
                    {
                        **_where(scope(guest, fifo=fifo)),
                        "rows": tuple(sorted(there)),
                        "differs": tuple(
                            f"{other.release}: {row}"
                            for other, row in domains.model.sorted_differences()
                            if row in there
                        ),
                    }
                )
    return met
