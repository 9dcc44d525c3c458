"""What may happen: outcomes, and the look-ups that every operation makes."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.domain import Domain, World
from harness.model.operations import DOMID_SELF, Result
from harness.model.releases import Errno


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen: what the caller sees, the world after it, and why."""

    result: Result
    world: World
    rows: tuple[str, ...]  # the rows of docs/spec/evtchn.md it rests on

    @property
    def row(self) -> str:
        """The row of the operation itself."""
        return self.rows[0]


def error(world: World, row: str, errno: Errno) -> Outcome:
    """The operation fails with ``errno``; nothing changes but what ``world`` says."""
    return Outcome(Result(rc=-int(errno)), world, (row,))


def ok(world: World, row: str, port: int | None = None) -> Outcome:
    """The operation succeeds."""
    return Outcome(Result(port=port), world, (row,))


def addressed(world: World, caller: int, dom: int) -> Domain | None:
    """Return the domain an argument names, DOMID_SELF being the caller; None: ESRCH."""
    return world.domain(caller if dom == DOMID_SELF else dom)


def own(world: World, domid: int) -> Domain:
    """Return the domain ``domid``, which makes the call: a world without it is a mistake."""
    domain = world.domain(domid)
    if domain is None:
        raise ValueError(f"domain {domid} is not in this world")
    return domain


def may_act_on(world: World, caller: int, domain: Domain) -> bool:
    """XSM_TARGET of the dummy policy: itself, a privileged domain, or its stub domain."""
    actor = own(world, caller)
    return actor.domid == domain.domid or actor.privileged or actor.target == domain.domid


def valid(domain: Domain, port: int) -> bool:
    """port_is_valid()."""
    return 0 <= port < domain.valid
