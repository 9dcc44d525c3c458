# SPDX-License-Identifier: GPL-2.0-or-later
"""The one guest of QEMU's emulation from test to test, and what QEMU does otherwise than Xen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from harness.conformance.bare import Bare
from harness.conformance.guest import Domains
from harness.conformance.hypercalls import Observed, call, observed
from harness.conformance.reference_model import Disagreement, ReferenceModel, told
from harness.model.evtchn import qemu
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.operations import (
    BindInterdomain,
    Close,
    Consume,
    Operation,
    Result,
    Send,
)
from harness.model.evtchn.predict import predict
from harness.model.evtchn.qemu_cases import DOMID_QEMU, GUEST, PORTS
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version
from harness.results import records
from harness.results.directory import RunDirectory
from harness.results.journal import read
from harness.run.emulation import Emulation

TYPE = "hvm"  # as which its guests run
# The Xen that it is compared with: the one that it says it is, and that its documentation names.
XEN = by_version(Release(4, 17))
_GUEST = f"QEMU {TYPE}"  # none of the catalogue's, which is of Xen


class EmulatedDomains:
    """What HostDomains is for a host with Xen."""

    bare_types = (TYPE,)

    def __init__(self, live: Emulation) -> None:
        self._live = live

    def is_of(self, live: object) -> bool:
        """Say whether this is the guest of ``live``: a process may have been started anew."""
        return self._live is live

    def begin(self) -> Domains:
        """Return the domains for a test.  QEMU remembers nothing of a guest that has reset, so for
        each test it is a new one."""
        world = qemu.new_world(XEN, self._live.agent.info.vcpus)
        found = Domains(ReferenceModel(world, others=(XEN,)))
        found.before = world
        return found

    def bare(self, domains: Domains, _type: str = TYPE) -> Bare:
        """Add the guest to ``domains``, reset."""
        bare = Bare(domains, self._live.agent, TYPE, linux=False)
        domains.add(bare)
        bare.agent.connection.ask("dom0_release")
        bare.begin()
        return bare

    def end(self, domains: Domains, *, well: bool) -> None:
        """A test has ended, ``well`` or not: the next one begins with a reset."""


@dataclass(frozen=True)
class Dom0:
    """QEMU in the place of dom0 (xen_be_evtchn_*): its ends of channels to the guest.

    Each method is judged as the hypercall that a dom0 would make.
    """

    bare: Bare

    def bind_interdomain(self, port: int) -> int:
        """Bind a port to ``port`` of the guest; return it, or -errno."""
        return self.make(BindInterdomain(DOMID_QEMU, GUEST, port)).code

    def send(self, port: int) -> int:
        """Send an event from ``port`` of domain 0."""
        return self.make(Send(DOMID_QEMU, port)).code

    def close(self, port: int) -> int:
        """Close ``port`` of domain 0."""
        return self.make(Close(DOMID_QEMU, port)).code

    def take(self, port: int) -> bool:
        """Say whether ``port`` of domain 0 has an event, and take it; AssertionError if the model
        says otherwise."""
        model = self.bare.domains.model
        answer = self.bare.agent.connection.ask("dom0_take", {"port": port})
        there = bool(answer.integer("result"))
        assert model.domain(DOMID_QEMU).pending(port) == there, f"port {port} of domain 0"
        model.judge(Consume(DOMID_QEMU, port), Observed(0))
        return there

    def make(self, operation: BindInterdomain | Send | Close) -> Result:
        """Make ``operation`` of domain 0; judge its answer, and compare what the guest sees."""
        domains = self.bare.domains
        before = domains.model.world
        port = operation.remote_port if isinstance(operation, BindInterdomain) else operation.port
        answer = self.bare.agent.connection.attempt(_DOM0[type(operation)], {"port": port})
        taken = domains.judge(operation, observed(operation, answer))
        with domains.model.effect_of(operation):
            domains.compare_changes(before)
        return taken.result


_DOM0: dict[type[Operation], str] = {
    BindInterdomain: "dom0_bind_interdomain",
    Send: "dom0_send",
    Close: "dom0_close",
}


def scopes(domains: Domains) -> list[dict[str, Any]]:
    """Return the rows that the guest has met, as a record of kind "cells" for the journal."""
    model = domains.model
    return [
        {
            "guest": _GUEST,
            "abi": "2L",
            "release": str(XEN.release),
            "rows": tuple(sorted({each.row for each in model.exercised})),
            "differs": tuple(f"{xen}: {row}" for xen, row in model.sorted_differences()),
        }
    ]


def summary(directory: RunDirectory) -> str:
    """Return a line about a run: how many rows were tried, and how many divergences seen."""
    found = [entry.record for entry in read(directory.journal).entries]
    cells = [record for record in found if isinstance(record, records.Cells)]
    rows = {row for each in cells for row in each.rows}
    own = {row for row in rows if row.startswith(qemu.ROW)}
    seen = {row.partition(": ")[2] for each in cells for row in each.differs} & own
    return (
        f"{len(rows - own)} rows of the specification met as by Xen {XEN}, "
        f"{len(seen)} of {len(qemu.TABLE)} divergences from it"
    )


@dataclass(frozen=True)
class Shown:
    """A divergence that QEMU has just shown."""

    divergence: qemu.Divergence
    hypercalls: tuple[str, ...]  # each with QEMU's answer
    xen: tuple[str, ...]  # the answers that Xen may give to the last one

    @property
    def lines(self) -> tuple[str, str]:
        """The divergence in two lines: who does what, and the hypercalls of a new guest."""
        each = self.divergence
        before = "no port is left; " if each.full else ""
        return (
            f"{each.name}: {each.says} [{each.function}]",
            f"{before}{'; '.join(self.hypercalls)} (Xen: {' or '.join(self.xen)})",
        )


def show(bare: Bare, each: qemu.Divergence) -> Shown:
    """Have the guest, which is reset, make the hypercalls that show ``each``.

    Raises Disagreement if QEMU does not do as recorded.
    """
    model = bare.domains.model
    if each.full:
        bare.fill(PORTS)
    hypercalls: list[str] = []
    xen: tuple[str, ...] = ()
    for operation in each.shown_by:
        xen = tuple(_answer(o.result) for o in predict(qemu.as_xen(model.world), operation))
        try:
            taken = _made(bare, operation)
        except Disagreement as error:
            error.after(f"recorded of QEMU: {each.says} [{each.function}]")
            raise
        hypercalls.append(f"{_hypercall(operation)} = {_answer(taken)}")
    return Shown(each, tuple(hypercalls), tuple(dict.fromkeys(xen)))


def _made(bare: Bare, operation: Operation) -> Result:
    if isinstance(operation, BindInterdomain) and operation.caller == DOMID_QEMU:
        return Dom0(bare).make(operation)
    return bare.domains.do(bare, operation).result


def _hypercall(operation: Operation) -> str:
    verb, arguments = call(operation)
    who = "dom0: " if getattr(operation, "caller", None) == DOMID_QEMU else ""
    words = (f"{name}={_value(value)}" for name, value in arguments.items())
    return f"{who}{verb}({', '.join(words)})"


def _answer(result: Result) -> str:
    state = "" if result.status is None else f", state {result.status.status}"
    return told(replace(result, status=None)) + state


def _value(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "DOMID_SELF" if value == DOMID_SELF else str(value)
