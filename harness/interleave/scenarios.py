"""Scenarios: what each CPU does to one channel.  The model supplies the orders.

A scenario is a preparation, the port whose lock is under test, and one operation per CPU.  Each
operation is a call site of the model (harness.model.lock.flavours) and what it does under the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.arch import Arch
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.domain import State
from harness.model.explore.program import (
    AccessKind,
    AtomicStep,
    Branch,
    Program,
    Role,
    System,
    Variable,
)
from harness.model.lock.call_sites import (
    as_interrupt,
    interruptible,
    lets_same_cpu_in,
    reader_program,
    without_claims,
)
from harness.model.lock.flavours import MAX_VIRT_CPUS, Site
from harness.model.lock.lock_functions import TAGS, CriticalSection
from harness.model.lock.locks import LOCKS
from harness.model.lock.ticket_lock import ticketed

FREE, UNBOUND, INTERDOMAIN, PIRQ = (  # as numbers, for formulas
    int(state) for state in (State.FREE, State.UNBOUND, State.INTERDOMAIN, State.PIRQ)
)
EINVAL = -int(Errno.EINVAL)
DOM0, DOMU = "dom0", "domu1"


@dataclass(frozen=True)
class Call:
    """An operation of a guest agent: ``ports`` names its port arguments, ``irq`` its argument
    that is the number of the spare interrupt, ``makes`` the port that it returns."""

    verb: str
    ports: tuple[tuple[str, str], ...] = ()
    irq: str = ""
    makes: str = ""
    domain: str = DOM0  # whose agent
    remote: str = ""  # the domain at the other end; "" its own


# Where a call takes the lock, if not in evtchn_CALL; the one may be inlined into the other.
_FUNCTIONS = {
    "poll": ("do_poll", "do_sched_op"),
    "bind_pirq": ("evtchn_bind_pirq", "do_event_channel_op"),
    "irq_unmask_notify": ("pirq_guest_unmask", "do_physdev_op"),
}
_WHOLE = ("close", "bind_interdomain", "alloc_unbound")


@dataclass(frozen=True)
class Lane:
    """What one CPU does: the call, where it takes the lock, and what it then does."""

    call: Call
    site: Site
    inside: Callable[[str], CriticalSection]  # given the name of the variable for its result
    # A writer under the event_lock, before it takes the channel's: (when it goes on, its result
    # when it does not).
    test: tuple[str, int] | None = None
    # What may send the call back before it comes to the lock, though nothing is wrong.
    excuse: str = ""

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions of Xen in which the call takes the lock."""
        own = _FUNCTIONS.get(self.call.verb, (f"evtchn_{self.call.verb}",))
        return (*own, "double_evtchn_lock") if self.site is Site.WRITER else own

    @property
    def whole(self) -> str:
        """The function of Xen that a writer's call is all in, if only we make such calls; ""."""
        return f"evtchn_{self.call.verb}" if self.call.verb in _WHOLE else ""

    def program(self, design: str, number: int, event_lock: bool) -> Program:
        """Return the lane as the model has it, run once."""
        name, rc = f"{self.call.verb} on CPU{number}", f"rc{number}"
        section = self.inside(rc)
        if self.site is Site.WRITER:
            made = LOCKS[design].write(name, section, f"evtchn_{self.call.verb}", event_lock)
            if event_lock and self.test is not None:
                made = _tested(made, *self.test, rc)
        else:
            made = without_claims(reader_program(design, self.site, section, name))
        return made.once()


@dataclass(frozen=True)
class Interrupt:
    """A physical interrupt whose channel is the one under test: send_guest_pirq, which tries."""

    section: CriticalSection

    def program(self, design: str) -> Program:
        """Return the handler as the model has it."""
        made = without_claims(reader_program(design, Site.PIRQ, self.section, "send_guest_pirq"))
        if design == "rwlock":
            made = lets_same_cpu_in(made)
        return as_interrupt(made).once()


def _tested(program: Program, when: str, otherwise: int, rc: str) -> Program:
    """Put a look at the state between the event_lock and the channel's lock."""
    first = program.steps[1].name
    branches = (
        Branch(when, first),
        Branch(f"not ({when})", "unlock", sets=((rc, otherwise),)),
    )
    look = AtomicStep(
        "test", AccessKind.RMW, "state", branches, f"{program.name}: looks at the state"
    )
    lock = replace(program.steps[0], branches=(replace(program.steps[0].branches[0], then="test"),))
    return replace(program, steps=(lock, look, *program.steps[1:]))


@dataclass(frozen=True)
class Scenario:
    """One situation; see the module."""

    name: str
    what: str
    given: tuple[Call, ...]
    lock: str  # the port whose lock is under test
    lanes: tuple[Lane, ...]
    state: int  # of that port at first
    pending: str = ""  # the port whose pending bit is watched
    masked: bool = False  # watch the mask of the port under test; it is set at first
    arches: tuple[Arch, ...] = tuple(Arch)  # where there is such a thing
    last: int | None = None  # the lane that would send others home before they come to the lock
    # An interrupt on the first lane's CPU, once, at any moment: what it does to the channel.
    interrupt: Interrupt | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains whose agents take part."""
        calls = (*self.given, *(lane.call for lane in self.lanes))
        return tuple(dict.fromkeys(call.domain for call in calls))

    @property
    def vcpus(self) -> int:
        """How many vCPUs dom0 needs; a domU has one."""
        return sum(lane.call.domain == DOM0 for lane in self.lanes)

    def vcpu(self, lane: int) -> int:
        """Return which vCPU of its domain makes the call of ``lane``."""
        domain = self.lanes[lane].call.domain
        return sum(each.call.domain == domain for each in self.lanes[:lane])

    def owner(self, port: str) -> str:
        """Return the domain whose port it is."""
        calls = (*self.given, *(lane.call for lane in self.lanes))
        return next(call.domain for call in calls if call.makes == port)

    @property
    def writers(self) -> int:
        return sum(lane.site is Site.WRITER for lane in self.lanes)

    def system(self, design: str, arch: Arch) -> System:
        """Return the scenario as a system of the model."""
        lock = LOCKS[design]
        several = self.writers > 1  # one writer alone needs no event_lock to be right
        programs = [lane.program(design, number, several) for number, lane in enumerate(self.lanes)]
        if self.interrupt is not None:
            programs = [interruptible(programs[0]), *programs[1:], self.interrupt.program(design)]
        roles = tuple(Role(program, 1) for program in programs)
        seen = [Variable("state", self.state, 0, 6)]
        if self.pending or any(lane.site is Site.SEND for lane in self.lanes):
            seen.append(Variable("pending"))
        if self.masked:
            seen.append(Variable("mask", 1))
        if self.interrupt is not None:
            seen.append(Variable("irq"))
        results = [Variable(f"rc{number}", 0, EINVAL, 0) for number in range(len(self.lanes))]
        words = [v for v in lock.variables if several or v.name != "elock"]
        constants = (("W", MAX_VIRT_CPUS[arch.value]),)
        made = System(self.name, roles, (*words, *seen, *results), constants, tags=TAGS)
        return ticketed(made, "lock") if design == "spinlock" else made


# -- operations ----------------------------------------------------------------------------


def _alloc(port: str, domain: str = DOM0, remote: str = "") -> Call:
    return Call("alloc_unbound", makes=port, domain=domain, remote=remote)


def _bind(to: str, port: str, remote: str = "") -> Call:
    return Call("bind_interdomain", (("port", to),), makes=port, remote=remote)


def _put(**values: int) -> tuple[tuple[str, int], ...]:
    return tuple(values.items())


def send(port: str, domain: str = DOM0) -> Lane:
    """EVTCHNOP_send: what it does depends on the state it finds."""

    def inside(rc: str) -> CriticalSection:
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

    return Lane(Call("send", (("port", port),), domain=domain), Site.SEND, inside)


def _changes(verb: str, port: str, site: str, **values: int) -> Lane:
    """A writer that leaves the channel under test with ``values``."""

    def inside(_: str) -> CriticalSection:
        branch = Branch("", "", sets=_put(**values))
        return (AtomicStep("change", AccessKind.STORE, "state", (branch,), site),)

    return Lane(Call(verb, (("port", port),)), Site.WRITER, inside)


def close(port: str) -> Lane:
    """EVTCHNOP_close of the channel under test."""
    lane = _changes("close", port, "evtchn_close: evtchn_free", state=FREE)
    return replace(lane, test=(f"state != {FREE}", EINVAL))


def close_peer(port: str, **its: int) -> Lane:
    """EVTCHNOP_close of the other end: ours becomes UNBOUND; ``its`` own variables are reset."""
    lane = _changes("close", port, "evtchn_close: the peer becomes UNBOUND", state=UNBOUND, **its)
    return replace(lane, test=(f"state == {INTERDOMAIN}", 0))  # else the other end has no peer


def bind(port: str) -> Lane:
    """EVTCHNOP_bind_interdomain to the channel under test."""
    lane = _changes("bind_interdomain", port, "evtchn_bind_interdomain", state=INTERDOMAIN)
    lane = replace(lane, call=replace(lane.call, makes="r"))
    return replace(lane, test=(f"state == {UNBOUND}", EINVAL))


def alloc(port: str) -> Lane:
    """EVTCHNOP_alloc_unbound, which returns the channel under test."""
    lane = _changes("alloc_unbound", "", "evtchn_alloc_unbound: state", state=UNBOUND)
    return replace(lane, call=Call("alloc_unbound", makes=port))


def unmask(port: str) -> Lane:
    """EVTCHNOP_unmask."""

    def inside(_: str) -> CriticalSection:
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

    return Lane(Call("unmask", (("port", port),)), Site.UNMASK, inside)


def poll(port: str) -> Lane:
    """SCHEDOP_poll: EINVAL for a port that is not usable."""

    def inside(rc: str) -> CriticalSection:
        branches = (
            Branch(f"state == {FREE}", "", sets=_put(**{rc: EINVAL})),
            Branch(f"state != {FREE}", ""),
        )
        return (
            AtomicStep(
                "test", AccessKind.RMW, "state", branches, "evtchn_port_poll: evtchn_usable"
            ),
        )

    upcall = "SCHEDOP_poll returns at once when the vCPU has an event to take"
    return Lane(Call("poll", (("ports", port),)), Site.POLL, inside, excuse=upcall)


def asks_whether_masked(port: str) -> Lane:
    """PHYSDEVOP_IRQ_UNMASK_NOTIFY, which asks whether the port of an interrupt that is in flight
    is masked: it is."""

    def inside(_: str) -> CriticalSection:
        return (
            AtomicStep("ask", AccessKind.RMW, "mask", (Branch("", ""),), "evtchn_port_is_masked"),
        )

    return Lane(Call("irq_unmask_notify"), Site.MASKED, inside)


def bind_pirq(port: str) -> Lane:
    """EVTCHNOP_bind_pirq of the spare interrupt, which returns the channel under test."""
    lane = _changes("bind_pirq", "", "evtchn_bind_pirq: state", state=PIRQ)
    return replace(lane, call=Call("bind_pirq", irq="pirq", makes=port))


_PENDS: CriticalSection = (
    AtomicStep(
        "pend",
        AccessKind.RMW,
        "pending",
        (Branch(f"state != {FREE}", "", sets=_put(pending=1)), Branch(f"state == {FREE}", "")),
        "send_guest_pirq: evtchn_port_set_pending",
    ),
)


# -- the scenarios -------------------------------------------------------------------------

_PAIR = (_alloc("p"), _bind("p", "q"))

_ALL = (
    Scenario(
        "send-close",
        "a send on a port that is being closed",
        _PAIR,
        "q",
        (send("q"), close("q")),
        INTERDOMAIN,
        pending="p",
    ),
    Scenario(
        "send-close-peer",
        "a send on a port whose other end is being closed",
        _PAIR,
        "q",
        (send("q"), close_peer("p", pending=0)),
        INTERDOMAIN,
        pending="p",
    ),
    Scenario(
        "send-bind",
        "a send on an UNBOUND port that is being bound to",
        (_alloc("p"),),
        "p",
        (send("p"), bind("p")),
        UNBOUND,
    ),
    Scenario(
        "unmask-bind",
        "an unmask of an UNBOUND port that is being bound to",
        (_alloc("p"),),
        "p",
        (unmask("p"), bind("p")),
        UNBOUND,
        masked=True,
    ),
    Scenario(
        "unmask-close",
        "an unmask of a port that is being closed",
        _PAIR,
        "p",
        (unmask("p"), close("p")),
        INTERDOMAIN,
        masked=True,
    ),
    Scenario(
        "unmask-close-peer",
        "an unmask of a port whose other end is being closed",
        _PAIR,
        "p",
        (unmask("p"), close_peer("q")),
        INTERDOMAIN,
        masked=True,
    ),
    Scenario(
        "poll-alloc",
        "a poll of a closed port that is being allocated",
        (_alloc("p"), Call("close", (("port", "p"),))),
        "p",
        (poll("p"), alloc("p")),
        FREE,
    ),
    Scenario(
        "poll-bind",
        "a poll of an UNBOUND port that is being bound to",
        (_alloc("p"),),
        "p",
        (poll("p"), bind("p")),
        UNBOUND,
    ),
    Scenario(
        "close-bind",
        "two writers of one domain: one closes the port that the other binds to",
        (_alloc("p"),),
        "p",
        (close("p"), bind("p")),
        UNBOUND,
    ),
    Scenario(
        "close-close",
        "two writers of one domain: both ends are being closed",
        _PAIR,
        "q",
        (close("q"), close_peer("p")),
        INTERDOMAIN,
    ),
    Scenario(
        "masked-close",
        "a look whether an interrupt's port is masked, while that is being closed",
        (Call("bind_pirq", irq="pirq", makes="v"),),
        "v",
        (close("v"), asks_whether_masked("v")),
        PIRQ,
        masked=True,
        arches=(Arch.X86_64,),
        last=0,
    ),
    Scenario(
        "bind-interrupt",
        "an interrupt on the CPU that is just binding it",
        (_alloc("v"), Call("close", (("port", "v"),))),
        "v",
        (bind_pirq("v"),),
        FREE,
        pending="v",
        arches=(Arch.X86_64,),
        interrupt=Interrupt(_PENDS),
    ),
    Scenario(
        "domu-send-close-peer",
        "a domU's send on a port whose other end dom0 closes",
        (_alloc("u", DOMU, DOM0), _bind("u", "p", DOMU)),
        "u",
        (send("u", DOMU), close_peer("p")),
        INTERDOMAIN,
    ),
    Scenario(
        "sends-close",
        "two sends on a port that is being closed",
        _PAIR,
        "q",
        (send("q"), send("q"), close("q")),
        INTERDOMAIN,
        pending="p",
    ),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
for _scenario in _ALL:
    for _design in LOCKS:  # a mistake in a formula raises ProgramError when this is imported
        _scenario.system(_design, Arch.X86_64)
