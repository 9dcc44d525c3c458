# SPDX-License-Identifier: GPL-2.0-or-later
"""Outcomes of an operation, and what every operation looks up first: domains, rights, ports."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import Domain, World
from harness.model.evtchn.operations import Result


@dataclass(frozen=True, slots=True)
class AllowedOutcome:
    """One thing that may happen."""

    result: Result  # what the caller sees
    world: World  # as it is afterwards
    rows: tuple[str, ...]  # the rows of docs/spec/evtchn.md it rests on

    @property
    def row(self) -> str:
        """The row of the operation itself; the others are the allocator's and the copy's."""
        return self.rows[0]


def error(world: World, row: str, errno: Errno) -> AllowedOutcome:
    """Return the outcome that the operation fails; ``world`` is what it leaves behind."""
    return AllowedOutcome(Result(rc=-int(errno)), world, (row,))


def ok(world: World, row: str, port: int | None = None) -> AllowedOutcome:
    """Return the outcome that the operation succeeds; ``world`` is what it leaves behind."""
    return AllowedOutcome(Result(port=port), world, (row,))


def addressed_domain(world: World, caller: int, dom: int) -> Domain | None:
    """Return the domain that an argument names; DOMID_SELF is the caller.  None: ESRCH."""
    return world.domain(caller if dom == DOMID_SELF else dom)


def existing_domain(world: World, domid: int) -> Domain:
    """Return the domain ``domid``; ValueError if the world does not have it."""
    domain = world.domain(domid)
    if domain is None:
        raise ValueError(f"domain {domid} is not in this world")
    return domain


def may_act_on(world: World, caller: int, domain: Domain) -> bool:
    """XSM_TARGET of the dummy policy: ``caller`` may act on itself, on the domain whose stub domain
    it is, and if it is privileged, on any."""
    actor = existing_domain(world, caller)
    return actor.domid == domain.domid or actor.privileged or actor.target == domain.domid


def valid(world: World, domain: Domain, port: int) -> bool:
    """port_is_valid()."""
    stays = world.rules.holds(Rule.VALID_PORT_STAYS_VALID)
    return 0 <= port < (domain.valid if stays else min(domain.valid, domain.limit))
