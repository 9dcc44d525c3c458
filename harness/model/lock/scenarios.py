"""Situations in which the lock is explored: a flavour's call sites, as threads that meet.

``lock`` is the lock itself under any number of senders and writers; the others put one call
site of Xen against a writer.  Each is a ``System``; what must never happen is part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.model.explore.program import (
    AccessKind,
    AtomicStep,
    Branch,
    Order,
    Program,
    Role,
    System,
    Variable,
    chain,
    load,
    on,
    rmw,
)
from harness.model.lock.flavours import FLAVOURS, Acquire, Site
from harness.model.lock.locks import (
    DROPPED_WITHOUT_WRITER,
    LOCKS,
    MAX_VIRT_CPUS,
    MUTUAL_EXCLUSION,
    CriticalSection,
    Lock,
)

XEN_FUNCTION: dict[Site, str] = {
    Site.SEND: "evtchn_send",
    Site.VIRQ: "send_guest_global_virq",
    Site.PIRQ: "send_guest_pirq",
    Site.XEN_NOTIFY: "notify_via_xen_event_channel",
    Site.UNMASK: "evtchn_unmask",
    Site.SET_PRIORITY: "evtchn_set_priority",
    Site.MASKED: "evtchn_port_is_masked",
    Site.POLL: "evtchn_port_poll",
}

POLL_EINVAL = "poll answers EINVAL only for an unusable port"
POLL_SLEEPS = "poll does not sleep on a pending port"
UNMASK_LOST = "an unmask that returned 0 has cleared the mask"
VIRQ_VCPU = "a VIRQ is delivered on the channel's notify vCPU"


@dataclass(frozen=True)
class Bounds:
    """How many threads, and what a writer adds to the counter (W = MAX_VIRT_CPUS)."""

    readers: int
    writers: int
    arch: str = "x86_64"

    @property
    def at_most_two(self) -> Bounds:
        """The same, small enough to put beside other call sites."""
        return replace(self, readers=min(self.readers, 2), writers=min(self.writers, 2))


Scenario = Callable[[str, Bounds], System]


def site_program(
    flavour: str, site: Site, section: CriticalSection = (), name: str = ""
) -> Program:
    """Return what ``site`` does to the lock in ``flavour``, around ``section``."""
    lock, how = LOCKS[flavour], FLAVOURS[flavour].sites[site]
    acquire = lock.tryread if how is Acquire.TRY else lock.read
    return acquire(name or site.value, section, XEN_FUNCTION[site])


def build_system(
    name: str,
    flavour: str,
    bounds: Bounds,
    roles: tuple[tuple[Program, int], ...],
    variables: tuple[Variable, ...] = (),
) -> System:
    """Put programs together around one channel's lock."""
    lock: Lock = LOCKS[flavour]
    return System(
        name,
        tuple(Role(program, count) for program, count in roles if count),
        lock.variables + variables,
        (("W", MAX_VIRT_CPUS[bounds.arch]),),
        lock.never,
        rest=lock.rest,
    )


def lock_scenario(flavour: str, bounds: Bounds, event_lock: bool = True) -> System:
    """Senders and writers of one channel, for ever; writers hold the event_lock."""
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", event_lock)
    sender = site_program(flavour, Site.SEND)
    roles = ((sender, bounds.readers), (writer, bounds.writers))
    return build_system("lock", flavour, bounds, roles)


def mixed(flavour: str, bounds: Bounds) -> System:
    """Senders, which may block, beside a VIRQ sender, which may not."""
    few = bounds.at_most_two
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", True)
    roles = (
        (site_program(flavour, Site.SEND), few.readers),
        (site_program(flavour, Site.VIRQ), 1),
        (writer, few.writers),
    )
    return build_system("mixed", flavour, bounds, roles)


def poll_unusable(flavour: str, bounds: Bounds) -> System:
    """SCHEDOP_poll of a port that is valid but FREE, and the allocation that returns it."""
    usable = Variable("usable")
    leaves = "read" if flavour == "counter-v2" else ""
    look = load(
        "test",
        "usable",
        "evtchn_port_poll: evtchn_usable",
        on("usable == 1", ""),
        on("usable == 0", leaves),
    )
    poll = site_program(flavour, Site.POLL, (look,)).once()
    store = AtomicStep(
        "bind", AccessKind.STORE, "usable", (assign("", usable=1),), "evtchn_alloc_unbound: state"
    )
    alloc = LOCKS[flavour].write("alloc", (store,), "evtchn_alloc_unbound", True)
    roles = ((poll, 1), (alloc, bounds.at_most_two.writers))
    return build_system("poll-unusable", flavour, bounds, roles, (usable,))


def poll_bind(flavour: str, bounds: Bounds) -> System:
    """SCHEDOP_poll of an UNBOUND port while the peer binds to it: usable throughout."""
    poll = site_program(flavour, Site.POLL)
    if flavour == "counter-v2":
        poll = when_dropped(poll, "evtchn_port_poll: rc is still -EINVAL", POLL_EINVAL, "0 == 1")
    writer = LOCKS[flavour].write("bind", (), "evtchn_bind_interdomain", True)
    return build_system(
        "poll-bind", flavour, bounds, ((poll, 1), (writer, bounds.at_most_two.writers))
    )


def masked(flavour: str, bounds: Bounds) -> System:
    """PHYSDEVOP_IRQ_UNMASK_NOTIFY asks whether a port is masked, beside senders and writers."""
    few = bounds.at_most_two
    query = without_claims(site_program(flavour, Site.MASKED))
    if flavour == "counter-v2":  # the read side is released whether or not it was got
        release = replace(query.step("leave"), name="release", tags=())
        query = query.edit("read", lambda step: _rerouted(step, "read", "release"))
        query = query.edit("undo", lambda step: _rerouted(step, "read", "release"))
        query = replace(query, steps=(*query.steps, release))
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", True)
    roles = (
        (query.once(), 1),
        (site_program(flavour, Site.SEND), min(few.readers, 1)),
        (writer, few.writers),
    )
    return build_system("masked", flavour, bounds, roles)


def unmask(flavour: str, bounds: Bounds) -> System:
    """EVTCHNOP_unmask of an UNBOUND port while the peer binds to it."""
    clear = AtomicStep(
        "clear", AccessKind.STORE, "mask", (assign("", mask=0),), "evtchn_unmask: port_unmask"
    )
    ask = site_program(flavour, Site.UNMASK, (clear,))
    ask = returns(without_claims(ask), "evtchn_unmask: return 0", UNMASK_LOST, "mask == 0").once()
    writer = LOCKS[flavour].write("bind", (), "evtchn_bind_interdomain", True)
    roles = ((ask, 1), (writer, bounds.at_most_two.writers))
    return build_system("unmask", flavour, bounds, roles, (Variable("mask", 1),))


def global_virq(flavour: str, bounds: Bounds) -> System:
    """A global VIRQ is raised; EVTCHNOP_bind_vcpu has moved, or moves, the channel to vCPU 1."""
    at = "send_guest_global_virq: evtchn_port_set_pending"
    to_0 = Branch("notify == 0", "", requires="notify == 0", claim=VIRQ_VCPU)
    to_1 = Branch("notify == 1", "", requires="notify == 1", claim=VIRQ_VCPU)
    always_0 = Branch("", "", requires="notify == 0", claim=VIRQ_VCPU)
    branches = (always_0,) if flavour == "counter-v2" else (to_0, to_1)
    deliver = AtomicStep("deliver", AccessKind.LOAD, "notify", branches, at)
    raise_ = site_program(flavour, Site.VIRQ, (deliver,))
    move = Program(
        "bind_vcpu",
        chain(
            (
                rmw(
                    "lock",
                    "elock",
                    "evtchn_bind_vcpu, event_lock",
                    on("elock == 0", "move", elock=1),
                ),
                AtomicStep(
                    "move",
                    AccessKind.STORE,
                    "notify",
                    (assign("unlock", notify=1),),
                    "evtchn_bind_vcpu",
                ),
                rmw("unlock", "elock", "evtchn_bind_vcpu, event_lock", on("", "lock", elock=-1)),
            )
        ),
    ).once()
    roles = ((raise_, 1), (move, 1))
    return build_system("global-virq", flavour, bounds, roles, (Variable("notify"),))


def interrupt(flavour: str, bounds: Bounds) -> System:
    """A VIRQ in an interrupt on the CPU where a writer runs, at any moment; senders elsewhere."""
    reader = site_program(flavour, Site.VIRQ)
    if flavour == "rwlock":
        reader = lets_same_cpu_in(reader)
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", True)
    made = build_system(
        "interrupt",
        flavour,
        bounds,
        (
            (as_interrupt(reader), 1),
            (interruptible(writer), 1),
            (site_program(flavour, Site.SEND), bounds.at_most_two.readers),
        ),
        (Variable("irq"),),
    )
    if flavour == "rwlock":  # by design: a CPU may read what it has write-locked itself
        never = tuple(n for n in made.never if n.name != MUTUAL_EXCLUSION)
        return replace(made, never=never)
    return made


def xen_consumer(flavour: str, bounds: Bounds, under_lock: bool = True) -> System:
    """A send runs a Xen consumer's callback, which takes vm_event's lock; vm_event frees its port.

    Until 1376ef90d31c (4.15) the callback ran ``under_lock``.
    """
    take = rmw("call", "vm", "monitor_notification: vm_event lock", on("vm == 0", "back", vm=1))
    back = rmw("back", "vm", "monitor_notification: vm_event unlock", on("", "", vm=-1))
    sender = site_program(flavour, Site.SEND, (take, back) if under_lock else ())
    writer = LOCKS[flavour].write("vm_event", (), "free_xen_event_channel", True)
    start = rmw("vm", "vm", "vm_event_disable: vm_event lock", on("vm == 0", "lock", vm=1))
    end = rmw(
        "vmend", "vm", "vm_event_disable: vm_event unlock", on("", "vm", vm=-1), order=Order.RELEASE
    )
    writer = replace(
        writer, steps=(start, *(_rerouted(s, "lock", "vmend") for s in writer.steps), end)
    )
    roles = ((sender, min(bounds.readers, 2)), (writer, 1))
    return build_system("xen-consumer", flavour, bounds, roles, (Variable("vm"),))


def leak(flavour: str, bounds: Bounds) -> System:
    """A reader that never releases, injected: what becomes of the others?"""
    thief = site_program(flavour, Site.SEND, (), "leak")
    thief = thief.edit("leave", lambda s: replace(s, branches=(on("", thief.steps[0].name),)))
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", True)
    few = bounds.at_most_two
    roles = ((thief.once(), 1), (site_program(flavour, Site.SEND), few.readers), (writer, 1))
    return build_system("leak", flavour, bounds, roles)


def poll_pending(flavour: str, bounds: Bounds) -> System:
    """SCHEDOP_poll of a port that is pending all the time, while the peer closes its end."""
    poll = site_program(flavour, Site.POLL)
    poll = when_dropped(poll, "do_poll: the vCPU goes to sleep", POLL_SLEEPS, "0 == 1")
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", True)
    return build_system(
        "poll-pending", flavour, bounds, ((poll, 1), (writer, bounds.at_most_two.writers))
    )


# What ``check`` explores for every flavour.
SCENARIOS: dict[str, Scenario] = {
    "lock": lock_scenario,
    "mixed": mixed,
    "poll-unusable": poll_unusable,
    "poll-bind": poll_bind,
    "masked": masked,
    "unmask": unmask,
    "global-virq": global_virq,
    "interrupt": interrupt,
}

# -- changing programs ---------------------------------------------------------------------


def assign(then: str, **values: int) -> Branch:
    """Write a branch that sets variables."""
    return Branch("", then, sets=tuple(values.items()))


def _rerouted(step: AtomicStep, old: str, new: str) -> AtomicStep:
    branches = (replace(b, then=new if b.then == old else b.then) for b in step.branches)
    return replace(step, branches=tuple(branches))


def without_claims(program: Program) -> Program:
    """Return the program without the rule on dropped events: nothing is sent here."""

    def plain(branch: Branch) -> Branch:
        dropped = branch.claim == DROPPED_WITHOUT_WRITER
        return replace(branch, requires="", claim="") if dropped else branch

    steps = (replace(s, branches=tuple(plain(b) for b in s.branches)) for s in program.steps)
    return replace(program, steps=tuple(steps))


def when_dropped(program: Program, xen: str, claim: str, requires: str) -> Program:
    """Return the program with one more step where a failed try ends up."""
    if all(b.claim != DROPPED_WITHOUT_WRITER for s in program.steps for b in s.branches):
        return program  # it never gives up
    plain = without_claims(program)
    home = plain.steps[0].name
    failed = AtomicStep(
        "failed", AccessKind.LOCAL, "", (on("", home, requires=requires, claim=claim),), xen
    )
    failing = {plain.steps[0].name, "undo"}
    steps = tuple(_rerouted(s, home, "failed") if s.name in failing else s for s in plain.steps)
    return replace(plain, steps=(*steps, failed))


def returns(program: Program, xen: str, claim: str, requires: str) -> Program:
    """Return the program with a last step, its return, where ``requires`` must hold."""
    home = program.steps[0].name
    steps = tuple(_rerouted(step, home, "return") for step in program.steps)
    last = AtomicStep(
        "return", AccessKind.LOCAL, "", (on("", home, requires=requires, claim=claim),), xen
    )
    return replace(program, steps=(*steps, last))


def as_interrupt(program: Program) -> Program:
    """Return the program as an interrupt handler: it runs to its end before its CPU goes on."""
    home = program.steps[0].name
    take = AtomicStep(
        "irq", AccessKind.LOCAL, "", (on("irqs_off == 0 and irq == 0", home, irq=1),), "do_IRQ"
    )

    def ends(branch: Branch) -> Branch:
        if branch.then != home:
            return branch
        return replace(branch, then="irq", adds=(*branch.adds, ("irq", -1)))

    steps = (replace(s, branches=tuple(ends(b) for b in s.branches)) for s in program.steps)
    return replace(program, name=f"{program.name} in irq", steps=(take, *steps))


def interruptible(program: Program) -> Program:
    """Return the program as it runs on the CPU that takes the interrupt."""

    def waits(branch: Branch) -> Branch:
        return replace(branch, when=f"({branch.when}) and irq == 0" if branch.when else "irq == 0")

    steps = (replace(s, branches=tuple(waits(b) for b in s.branches)) for s in program.steps)
    return replace(program, steps=tuple(steps))


def lets_same_cpu_in(program: Program) -> Program:
    """Return a rwlock reader on the writer's CPU: _can_read() also lets the lock's holder in."""

    def widened(branch: Branch) -> Branch:
        return replace(
            branch,
            when={"wmode == 0": "wmode == 0 or wmode == 3", "wmode != 0": "wmode == 1"}.get(
                branch.when, branch.when
            ),
        )

    steps = (replace(s, branches=tuple(widened(b) for b in s.branches)) for s in program.steps)
    return replace(program, steps=tuple(steps))
