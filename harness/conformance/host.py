"""A booted host's domains under the model's eyes, and what a test has met there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from harness.arch import Arch
from harness.conformance.bare import Bare, new_bare
from harness.conformance.cells import Scope, why_not
from harness.conformance.guest import Domains, Guest
from harness.conformance.oracle import Oracle, rows
from harness.conformance.survey import linux_domain
from harness.model.closing import closed
from harness.model.domain import Domain, Kind, State, World
from harness.model.outcome import own
from harness.model.releases import Release
from harness.run.bare import BareGuest, destroy_bare, end_bare, start_bare
from harness.run.session import Session
from harness.verdict import HarnessError

_KINDS = {"pv": Kind.PV, "pvh": Kind.HVM, "hvm": Kind.HVM, "arm": Kind.ARM}
_DOM0 = {Arch.X86_64: Kind.PV, Arch.ARM64: Kind.ARM}


def domains_of(live: Session) -> Domains:
    """Ask Xen what every domain of ``live`` is like now, the bare guest left out; the oracle's
    release is the Xen's that booted."""
    types = {"dom0": "dom0"} | {domu.name: domu.type for domu in live.domus}
    kinds = {name: _KINDS.get(type_, _DOM0[live.host.arch]) for name, type_ in types.items()}
    described = tuple(linux_domain(live.agents[name], kind) for name, kind in kinds.items())
    release = Release(*live.agents["dom0"].info.xen)
    found = Domains(Oracle(World(described, release)))
    for name, type_ in types.items():
        found.add(Guest(found, live.agents[name], type_))
    found.before = found.oracle.world
    return found


class BareHost:
    """The bare guest of one host, from test to test: started once, and again if it died.

    What Xen remembers of its ports beyond a reset is kept with it.
    """

    def __init__(self, live: Session) -> None:
        self._live = live
        self._running: BareGuest | None = None
        self._known: Domain | None = None

    def join(self, domains: Domains) -> Bare:
        """Take the guest into ``domains``, as new; start it if need be."""
        if self._running is None or self._known is None:
            self.end()
            running = self._running = start_bare(self._live)
            kind = _KINDS[running.domu.type]
            self._known = new_bare(running.domu.domid, kind, running.agent.info.vcpus)
        running = self._running
        oracle = domains.oracle
        oracle.world = replace(oracle.world, domains=(*oracle.world.domains, self._known))
        bare = Bare(domains, running.agent, running.domu.type, linux=False)
        domains.add(bare)
        bare.begin()
        domains.refresh()
        return bare

    def leave(self, bare: Bare, *, well: bool) -> None:
        """A test is over; a guest that a test has not left ``well`` is destroyed."""
        self._known = bare.now if well else None
        if not well:
            self.end()

    def destroy(self, bare: Bare) -> None:
        """Destroy the guest while dom0 maps pages of its: it is dying, and not yet gone."""
        if self._running is None:
            raise HarnessError("the bare guest does not run")
        destroy_bare(self._live, self._running)
        oracle = bare.domains.oracle
        world = oracle.world
        for port, channel in bare.now.ports:
            if channel.state > State.RESERVED:
                world = closed(world, bare.domid, port)
        dying = replace(own(world, bare.domid), dying=True)
        oracle.world = world.with_domain(dying)
        del bare.domains.guests[bare.name]

    def end(self) -> None:
        """Destroy the guest, if it runs."""
        if self._running is not None:
            end_bare(self._live, self._running)
        self._running = self._known = None


def scope(guest: Guest, *, fifo: bool) -> Scope:
    """Return where ``guest`` is in the catalogue, with that ABI."""
    arch = guest.agent.info.arch
    kind = "domU" if guest.type == "arm" else guest.type
    return Scope(f"{arch} {kind}", "FIFO" if fifo else "2L", guest.domains.oracle.world.release)


def declared_but_unseen(domains: Domains, wanted: Iterable[str]) -> list[str]:
    """Return the rows of ``wanted`` that no domain has met, though one of them could have."""
    seen = {exercised.row for exercised in domains.oracle.exercised}
    places = [
        scope(guest, fifo=fifo)
        for guest in domains.guests.values()
        for fifo in {e.fifo for e in domains.oracle.exercised if e.domid == guest.domid}
    ]
    return [
        row
        for row in wanted
        if row not in seen and any(not why_not(row, place) for place in places)
    ]


def scopes(domains: Domains) -> list[dict[str, Any]]:
    """Return what has been met, as the journal's records of kind "cells" have it."""
    met = []
    for guest in domains.guests.values():
        for fifo in (False, True):
            there = rows(domains.oracle.exercised, guest.domid, fifo)
            if there:
                place = scope(guest, fifo=fifo)
                met.append(
                    {
                        "guest": place.guest,
                        "abi": place.abi,
                        "release": str(place.release),
                        "rows": tuple(sorted(there)),
                    }
                )
    return met
