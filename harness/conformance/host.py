"""A booted host's domains under the model's eyes, and what a test has met there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.arch import Arch
from harness.conformance.cells import Scope, why_not
from harness.conformance.guest import Domains, Guest
from harness.conformance.oracle import Oracle, rows
from harness.conformance.survey import linux_domain
from harness.model.domain import Kind, World
from harness.model.releases import Release
from harness.run.session import Session

_KINDS = {"pv": Kind.PV, "pvh": Kind.HVM, "hvm": Kind.HVM, "arm": Kind.ARM}
_DOM0 = {Arch.X86_64: Kind.PV, Arch.ARM64: Kind.ARM}


def domains_of(live: Session) -> Domains:
    """Ask Xen what every domain of ``live`` is like now; the oracle's release is the Xen's that
    booted."""
    types = {"dom0": "dom0"} | {domu.name: domu.type for domu in live.domus}
    kinds = {name: _KINDS.get(type_, _DOM0[live.host.arch]) for name, type_ in types.items()}
    described = tuple(linux_domain(live.agents[name], kind) for name, kind in kinds.items())
    release = Release(*live.agents["dom0"].info.xen)
    found = Domains(Oracle(World(described, release)))
    for name, type_ in types.items():
        found.add(live.agents[name], type_)
    found.before = found.oracle.world
    return found


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
