# SPDX-License-Identifier: GPL-2.0-or-later
"""What each call site of Xen does to the lock, as a program, and variations of such programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.model.explore.program import DONE, AtomicStep, Branch, Program, local, on
from harness.model.lock.flavours import FLAVOURS, Acquire, Site
from harness.model.lock.lock_functions import DROPPED_WITHOUT_WRITER, CriticalSection
from harness.model.lock.locks import LOCKS
from harness.model.lock.spinlock import try_spinlock

XEN_FUNCTION: dict[Site, str] = {
    Site.SEND: "evtchn_send",
    Site.VIRQ: "send_guest_global_virq",
    Site.PIRQ: "send_guest_pirq",
    Site.XEN_NOTIFY: "notify_via_xen_event_channel",
    Site.UNMASK: "evtchn_unmask",
    Site.SET_PRIORITY: "evtchn_set_priority",
    Site.MASKED: "evtchn_port_is_masked",
    Site.POLL: "evtchn_port_poll",
    Site.DUMP: "dump_irqs",
}


def reader_program(
    flavour: str, site: Site, section: CriticalSection = (), name: str = ""
) -> Program:
    """Return what ``site``, which is no writer, does to the lock in ``flavour``.

    ``section`` is what it does under the lock.
    """
    lock, how = LOCKS[flavour], FLAVOURS[flavour].sites[site]
    acquire = lock.tryread if how is Acquire.TRY else lock.read
    if flavour == "spinlock" and how is Acquire.TRY:
        acquire = try_spinlock
    return acquire(name or site.value, section, XEN_FUNCTION[site])


def writer_program(
    flavour: str, xen: str = "evtchn_close", section: CriticalSection = (), name: str = "writer"
) -> Program:
    """Return what a writer does to the lock, with the domain's event_lock held around it."""
    return LOCKS[flavour].write(name, section, xen, True)


# -- variations ----------------------------------------------------------------------------


def rerouted(step: AtomicStep, old: str, new: str) -> AtomicStep:
    """Return the step with the branches that go to ``old`` going to ``new``."""
    branches = (replace(b, then=new if b.then == old else b.then) for b in step.branches)
    return replace(step, branches=tuple(branches))


def without_claims(program: Program) -> Program:
    """Return the program without the property of dropped events, for one that sends nothing."""

    def plain(branch: Branch) -> Branch:
        dropped = branch.claim == DROPPED_WITHOUT_WRITER
        return replace(branch, requires="", claim="") if dropped else branch

    return _each_branch(program, plain)


def with_failed_try(program: Program, xen: str, claim: str, requires: str) -> Program:
    """Return the program with one more step, which it makes after its try has failed.

    There ``requires`` must hold.  A program that never gives up is returned as it is.
    """
    if all(b.claim != DROPPED_WITHOUT_WRITER for s in program.steps for b in s.branches):
        return program
    plain = without_claims(program)
    first = plain.steps[0].name
    failed = local("failed", xen, on("", first, requires=requires, claim=claim))
    steps = (rerouted(s, first, "failed") if s.name in (first, "undo") else s for s in plain.steps)
    return replace(plain, steps=(*steps, failed))


def with_return(program: Program, xen: str, claim: str, requires: str) -> Program:
    """Return the program with a last step, its return, where ``requires`` must hold."""
    first = program.steps[0].name
    steps = tuple(rerouted(step, first, "return") for step in program.steps)
    last = local("return", xen, on("", first, requires=requires, claim=claim))
    return replace(program, steps=(*steps, last))


def as_interrupt(program: Program) -> Program:
    """Return the program as an interrupt handler: it runs to its end before its CPU goes on."""
    first = program.steps[0].name
    take = local("irq", "do_IRQ", on("irqs_off == 0 and irq == 0", first, irq=1))

    def ends(branch: Branch) -> Branch:
        if branch.then != first:
            return branch
        return replace(branch, then="irq", adds=(*branch.adds, ("irq", -1)))

    handler = _each_branch(program, ends)
    return replace(handler, name=f"{program.name} in irq", steps=(take, *handler.steps))


def interruptible(program: Program) -> Program:
    """Return the program as it runs on the CPU that takes the interrupt."""

    def waits(branch: Branch) -> Branch:
        return replace(branch, when=f"({branch.when}) and irq == 0" if branch.when else "irq == 0")

    return _each_branch(program, waits)


def ending(program: Program, held: str) -> Program:
    """Return ``program``, which runs once, as it releases ``held`` with its last step."""

    def releases(branch: Branch) -> Branch:
        return replace(branch, adds=(*branch.adds, (held, -1))) if branch.then == DONE else branch

    return _each_branch(program, releases)


def after(program: Program, held: str) -> Program:
    """Return ``program``, which runs once, as it takes its last step only when ``held`` is 0."""

    def waits(branch: Branch) -> Branch:
        if branch.then != DONE:
            return branch
        when = f"({branch.when}) and {held} == 0" if branch.when else f"{held} == 0"
        return replace(branch, when=when)

    return _each_branch(program, waits)


def with_interrupts_on(program: Program) -> Program:
    """Return the program without what it does to interrupts: they may come at any step."""
    steps = (
        replace(step, tags=tuple(tag for tag in step.tags if tag != "irqs_off"))
        for step in program.steps
    )
    return replace(program, steps=tuple(steps))


def lets_same_cpu_in(program: Program) -> Program:
    """Return a rwlock reader as it is on the CPU of the writer, which may read, too.

    _can_read_lock():
        return !(cnts & _QW_WMASK) || _is_write_locked_by_me(cnts);
    """
    on_this_cpu = {"wmode == 0": "wmode == 0 or wmode == 3", "wmode != 0": "wmode == 1"}

    def widened(branch: Branch) -> Branch:
        return replace(branch, when=on_this_cpu.get(branch.when, branch.when))

    return _each_branch(program, widened)


def _each_branch(program: Program, change: Callable[[Branch], Branch]) -> Program:
    steps = (replace(s, branches=tuple(change(b) for b in s.branches)) for s in program.steps)
    return replace(program, steps=tuple(steps))
