"""A booted host's domains under the model's eyes, and what a test has met there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

from harness.agent.operations import DOMID_SELF
from harness.arch import Arch
from harness.conformance.bare import Bare, new_bare
from harness.conformance.cells import RELEASES, Scope, why_not
from harness.conformance.guest import Domains, Guest
from harness.conformance.oracle import Oracle, rows
from harness.conformance.survey import linux_domain, xen_bound
from harness.model.closing import closed
from harness.model.domain import Domain, Kind, State, World
from harness.model.outcome import own
from harness.model.releases import Release
from harness.run.bare import NAME as BARE
from harness.run.bare import (
    WHY_NO_PAGING,
    BareGuest,
    destroy_bare,
    end_bare,
    possible_types,
    start_bare,
)
from harness.run.session import Session
from harness.verdict import HarnessError

_KINDS = {"pv": Kind.PV, "pvh": Kind.HVM, "hvm": Kind.HVM, "arm": Kind.ARM}
_DOM0 = {Arch.X86_64: Kind.PV, Arch.ARM64: Kind.ARM}


class Watched:
    """The domains of one booted host, from test to test: what is known of them stays known.

    Xen is asked for everything once, and again after a test that did not go well.  The bare
    guest is started when a test first asks for it.
    """

    def __init__(self, live: Session) -> None:
        self._live = live
        self._kept: World | None = None
        self._bare: BareGuest | None = None
        self._bare_domain: Domain | None = None

    def is_of(self, live: Session) -> bool:
        """Say whether these are the domains of ``live``: a host may have been booted anew."""
        return self._live is live

    def begin(self) -> Domains:
        """Return the domains for a test, the bare guest left out; the oracle's release is that
        of the Xen that booted."""
        live = self._live
        types = {"dom0": "dom0"} | {domu.name: domu.type for domu in live.domus}
        if self._kept is None:
            self._kept = self._ask(types)
        others = tuple(release for release in RELEASES if release != self._kept.release)
        found = Domains(Oracle(self._kept, others=others))
        for name, type_ in types.items():
            found.add(Guest(found, live.agents[name], type_))
        found.before = self._kept
        return found

    def end(self, domains: Domains, *, well: bool) -> None:
        """A test is over: close what it has left open.  AssertionError if Xen does not let us."""
        bare = domains.guests.get(BARE)
        if not well:
            self._kept = None
            self.end_bare()
            left = [f"{g.name}: {p}" for g in domains.linux() for p in g.agent.release()]
            assert left == [], "ports that Xen does not report as closed"
            return
        destroyed = bare is None and BARE in domains.oracle.names.values()
        domains.close_opened()
        if bare is not None:  # only now: its peers' ends have been closed
            self._bare_domain = bare.now
        for guest in domains.linux():  # they are closed, and Linux may take them now
            guest.agent.forget()
        world = domains.oracle.world
        linux = {guest.domid for guest in domains.linux()}
        self._kept = replace(world, domains=tuple(d for d in world.domains if d.domid in linux))
        if destroyed:
            self.end_bare()

    @cached_property
    def bare_types(self) -> tuple[str, ...]:
        """As which types of guest the bare one can be."""
        return possible_types(self._live)

    def bare(self, domains: Domains, type_: str) -> Bare:
        """Take the bare guest, of ``type_``, into ``domains``, as new; start it if need be."""
        runs = self._bare is not None and self._bare.domu.type == type_
        new = not runs or self._bare_domain is None
        running, known = self._start(type_) if new else (self._bare, self._bare_domain)
        assert running is not None and known is not None
        oracle = domains.oracle
        oracle.world = replace(oracle.world, domains=(*oracle.world.domains, known))
        bare = Bare(domains, running.agent, running.domu.type, linux=False)
        domains.add(bare)
        bare.begin()
        if new:
            domains.refresh()  # its birth, and the loss of its console, have changed dom0's ports
        return bare

    def destroy(self, bare: Bare) -> None:
        """Destroy the guest while dom0 maps pages of its: it is dying, and not yet gone."""
        if self._bare is None:
            raise HarnessError("the bare guest does not run")
        destroy_bare(self._live, self._bare)
        oracle = bare.domains.oracle
        world = oracle.world
        for port, channel in bare.now.ports:
            if channel.state > State.RESERVED:
                world = closed(world, bare.domid, port)
        oracle.world = world.with_domain(replace(own(world, bare.domid), dying=True))
        del bare.domains.guests[bare.name]

    def end_bare(self) -> None:
        """Destroy the bare guest, if it runs."""
        if self._bare is not None:
            end_bare(self._live, self._bare)
            self._kept = None  # dom0's daemons have closed their ends
        self._bare = self._bare_domain = None

    def _start(self, type_: str) -> tuple[BareGuest, Domain]:
        self.end_bare()
        running = self._bare = start_bare(self._live, type_)
        guest, dom0 = running.agent, self._live.agents["dom0"]
        guest.connection.ask("reset", {"owner": DOMID_SELF})
        known = new_bare(
            running.domu.domid,
            _KINDS[running.domu.type],
            guest.info.vcpus,
            xen_bound(guest, dom0),
        )
        self._bare_domain = known
        return running, known

    def _ask(self, types: dict[str, str]) -> World:
        agents, dom0 = self._live.agents, _DOM0[self._live.host.arch]
        kinds = {name: _KINDS.get(type_, dom0) for name, type_ in types.items()}
        described = tuple(linux_domain(agents[name], kind) for name, kind in kinds.items())
        return World(described, Release(*agents["dom0"].info.xen))


def scope(guest: Guest, *, fifo: bool) -> Scope:
    """Return where ``guest`` is in the catalogue, with that ABI."""
    kind = "domU" if guest.type == "arm" else guest.type
    return _scope(guest.domains, kind, fifo=fifo)


def _scope(domains: Domains, kind: str, *, fifo: bool) -> Scope:
    arch = domains.guests["dom0"].agent.info.arch
    return Scope(f"{arch} {kind}", "FIFO" if fifo else "2L", domains.oracle.world.release)


def impossible(domains: Domains, type_: str) -> list[dict[str, Any]]:
    """Return records of kind "cells": this Xen cannot have a guest of ``type_`` here."""
    places = [_scope(domains, type_, fifo=fifo) for fifo in (False, True)]
    return [{**_where(place), "rows": (), "why_not": WHY_NO_PAGING} for place in places]


def _where(place: Scope) -> dict[str, Any]:
    return {"guest": place.guest, "abi": place.abi, "release": str(place.release)}


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
                met.append(
                    {
                        **_where(scope(guest, fifo=fifo)),
                        "rows": tuple(sorted(there)),
                        "differs": tuple(
                            f"{release}: {row}"
                            for release, row in sorted(domains.oracle.differences)
                            if row in there
                        ),
                    }
                )
    return met
