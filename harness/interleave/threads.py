# SPDX-License-Identifier: GPL-2.0-or-later
"""The threads of scenarios: the call that one CPU makes, and what it does under the lock.

Each is a call site of the model (harness.model.lock.flavours) and the critical section that Xen
runs there while it holds the channel's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.model.evtchn.abi import Errno
from harness.model.evtchn.domain import State
from harness.model.explore.program import AccessKind, AtomicStep, Branch, Program
from harness.model.lock.call_sites import (
    as_interrupt,
    lets_same_cpu_in,
    reader_program,
    without_claims,
)
from harness.model.lock.flavours import Site
from harness.model.lock.lock_functions import CriticalSection
from harness.model.lock.locks import LOCKS

FREE, UNBOUND, INTERDOMAIN, PIRQ = (  # as numbers, for formulas
    int(state) for state in (State.FREE, State.UNBOUND, State.INTERDOMAIN, State.PIRQ)
)
EINVAL = -int(Errno.EINVAL)
DOM0, DOMU = "dom0", "domu1"


@dataclass(frozen=True)
class Call:
    """One call that a guest's agent makes.  Ports have names; the numbers come from Xen."""

    verb: str
    ports: tuple[tuple[str, str], ...] = ()  # (argument, name of the port)
    irq: str = ""  # the argument that is the number of the spare interrupt
    new_port: str = ""  # name of the port that the call returns
    domain: str = DOM0  # whose agent makes the call
    remote: str = ""  # the domain at the other end; "" the same domain
    numbers: tuple[tuple[str, int], ...] = ()  # (argument, value)


# Functions of Xen in which a call takes the lock, where that is not evtchn_CALL.  The compiler may
# inline the first one into the second.
_FUNCTIONS = {
    "poll": ("do_poll", "do_sched_op"),
    "bind_pirq": ("evtchn_bind_pirq", "do_event_channel_op"),
    "irq_unmask_notify": ("pirq_guest_unmask", "do_physdev_op"),
    "dump_irqs": ("dump_irqs",),
    "init_control": ("evtchn_fifo_init_control",),
}
_OUTER_FUNCTIONS = {
    "close": "evtchn_close",
    "bind_interdomain": "evtchn_bind_interdomain",
    "alloc_unbound": "evtchn_alloc_unbound",
    "dump_irqs": "dump_irqs",
}


@dataclass(frozen=True)
class Thread:
    """What one CPU does: the call, where it takes the lock, and what it does under the lock."""

    call: Call
    site: Site
    section: Callable[[str], CriticalSection]  # given the name of the variable for its result
    # For a writer that holds the event_lock and looks at the state before it takes the channel's
    # lock: (condition to go on, result if it does not).
    precheck: tuple[str, int] | None = None
    # Why Xen may return from the call before it takes the lock, though that is no fault.
    early_return: str = ""

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions of Xen in which the call takes the lock."""
        own = _FUNCTIONS.get(self.call.verb, (f"evtchn_{self.call.verb}",))
        return (*own, "double_evtchn_lock") if self.site is Site.WRITER else own

    @property
    def outer_function(self) -> str:
        """The function of Xen around all of the call; "" for most readers.

        Once it has returned, the call will not take the lock any more.  This is so because nobody
        but the scenario makes such calls.
        """
        return _OUTER_FUNCTIONS.get(self.call.verb, "")

    def program(self, design: str, number: int, event_lock: bool) -> Program:
        """Return the thread as a program of the model of lock ``design``, which runs once."""
        name, rc = f"{self.call.verb} on CPU{number}", f"rc{number}"
        section = self.section(rc)
        if self.site is Site.WRITER:
            made = LOCKS[design].write(name, section, f"evtchn_{self.call.verb}", event_lock)
            if event_lock and self.precheck is not None:
                made = _with_precheck(made, *self.precheck, rc)
        else:
            made = without_claims(reader_program(design, self.site, section, name))
        return made.once()


@dataclass(frozen=True)
class Interrupt:
    """A physical interrupt bound to the port under test: send_guest_pirq, which tries the lock."""

    section: CriticalSection

    def program(self, design: str) -> Program:
        """Return the interrupt's handler as a program of the model of lock ``design``."""
        made = without_claims(reader_program(design, Site.PIRQ, self.section, "send_guest_pirq"))
        if design == "rwlock":
            made = lets_same_cpu_in(made)
        return as_interrupt(made).once()


def _with_precheck(program: Program, condition: str, otherwise: int, rc: str) -> Program:
    """Insert a look at the state after the event_lock is taken, before the channel's lock is."""
    first = program.steps[1].name
    branches = (
        Branch(condition, first),
        Branch(f"not ({condition})", "unlock", sets=((rc, otherwise),)),
    )
    look = AtomicStep(
        "test", AccessKind.RMW, "state", branches, f"{program.name}: looks at the state"
    )
    lock = replace(program.steps[0], branches=(replace(program.steps[0].branches[0], then="test"),))
    return replace(program, steps=(lock, look, *program.steps[1:]))


# -- calls that prepare a scenario ---------------------------------------------------------


def new_unbound(port: str, domain: str = DOM0, remote: str = "") -> Call:
    """Return the call of ``domain`` that makes the UNBOUND ``port`` for ``remote``."""
    return Call("alloc_unbound", new_port=port, domain=domain, remote=remote)


def new_bound(to: str, port: str, remote: str = "") -> Call:
    """Return dom0's call that makes ``port``, bound to the port ``to`` of ``remote``."""
    return Call("bind_interdomain", (("port", to),), new_port=port, remote=remote)


# -- threads -------------------------------------------------------------------------------


def _put(**values: int) -> tuple[tuple[str, int], ...]:
    return tuple(values.items())


def send(port: str, domain: str = DOM0) -> Thread:
    """EVTCHNOP_send: delivers the event, drops it or fails, by the state of the port."""

    def section(rc: str) -> CriticalSection:
        branches = (
            Branch(f"state == {INTERDOMAIN}", "", sets=_put(pending=1)),
            Branch(f"state == {UNBOUND}", ""),
            Branch(f"state == {FREE}", "", sets=_put(**{rc: EINVAL})),
        )
        return (
            AtomicStep(
                "deliver", AccessKind.RMW, "state", branches, "evtchn_send: switch on state"
            ),
        )

    return Thread(Call("send", (("port", port),), domain=domain), Site.SEND, section)


def _writer(verb: str, port: str, xen: str, **values: int) -> Thread:
    """Return a writer that sets the variables of the channel under test to ``values``.

    ``xen``: where in Xen that happens.
    """

    def section(_: str) -> CriticalSection:
        branch = Branch("", "", sets=_put(**values))
        return (AtomicStep("change", AccessKind.STORE, "state", (branch,), xen),)

    return Thread(Call(verb, (("port", port),)), Site.WRITER, section)


def close(port: str) -> Thread:
    """EVTCHNOP_close of the port under test."""
    thread = _writer("close", port, "evtchn_close: evtchn_free", state=FREE)
    return replace(thread, precheck=(f"state != {FREE}", EINVAL))


def close_peer(port: str, **values: int) -> Thread:
    """EVTCHNOP_close of ``port``, the other end: the port under test becomes UNBOUND.

    ``values``: variables of the closed port, as its close leaves them.
    """
    thread = _writer(
        "close", port, "evtchn_close: the peer becomes UNBOUND", state=UNBOUND, **values
    )
    return replace(thread, precheck=(f"state == {INTERDOMAIN}", 0))  # else it has no peer


def bind(port: str) -> Thread:
    """EVTCHNOP_bind_interdomain to the port under test."""
    thread = _writer("bind_interdomain", port, "evtchn_bind_interdomain", state=INTERDOMAIN)
    thread = replace(thread, call=replace(thread.call, new_port="r"))
    return replace(thread, precheck=(f"state == {UNBOUND}", EINVAL))


def alloc(port: str) -> Thread:
    """EVTCHNOP_alloc_unbound, which returns the port under test."""
    thread = _writer("alloc_unbound", "", "evtchn_alloc_unbound: state", state=UNBOUND)
    return replace(thread, call=Call("alloc_unbound", new_port=port))


def unmask(port: str) -> Thread:
    """EVTCHNOP_unmask."""

    def section(_: str) -> CriticalSection:
        clear = Branch(f"state != {FREE}", "", sets=_put(mask=0))
        nothing = Branch(f"state == {FREE}", "")
        return (
            AtomicStep(
                "clear",
                AccessKind.RMW,
                "mask",
                (clear, nothing),
                "evtchn_unmask: evtchn_port_unmask",
            ),
        )

    return Thread(Call("unmask", (("port", port),)), Site.UNMASK, section)


def poll(port: str) -> Thread:
    """SCHEDOP_poll: EINVAL for a port that is not usable."""

    def section(rc: str) -> CriticalSection:
        branches = (
            Branch(f"state == {FREE}", "", sets=_put(**{rc: EINVAL})),
            Branch(f"state != {FREE}", ""),
        )
        return (
            AtomicStep(
                "test", AccessKind.RMW, "state", branches, "evtchn_port_poll: evtchn_usable"
            ),
        )

    upcall = "SCHEDOP_poll returns at once if the vCPU has a pending event"
    return Thread(Call("poll", (("ports", port),)), Site.POLL, section, early_return=upcall)


def is_masked() -> Thread:
    """PHYSDEVOP_IRQ_UNMASK_NOTIFY on the interrupt that is bound to the port under test.

    Xen asks under the lock whether the port is masked.  It is.
    """

    def section(_: str) -> CriticalSection:
        return (
            AtomicStep("ask", AccessKind.RMW, "mask", (Branch("", ""),), "evtchn_port_is_masked"),
        )

    return Thread(Call("irq_unmask_notify"), Site.MASKED, section)


def dump() -> Thread:
    """Debug key i, which looks whether the port under test, with its interrupt, is pending."""

    def section(_: str) -> CriticalSection:
        look = (Branch("", ""),)
        return (AtomicStep("look", AccessKind.RMW, "state", look, "dump_irqs: evtchn_is_pending"),)

    return Thread(Call("dump_irqs"), Site.DUMP, section)


def bind_pirq(port: str) -> Thread:
    """EVTCHNOP_bind_pirq of the spare interrupt, which returns the port under test."""
    thread = _writer("bind_pirq", "", "evtchn_bind_pirq: state", state=PIRQ)
    return replace(thread, call=Call("bind_pirq", irq="pirq", new_port=port))


SETS_PENDING: CriticalSection = (  # of the interrupt
    AtomicStep(
        "pend",
        AccessKind.RMW,
        "pending",
        (Branch(f"state != {FREE}", "", sets=_put(pending=1)), Branch(f"state == {FREE}", "")),
        "send_guest_pirq: evtchn_port_set_pending",
    ),
)
