# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios: what each CPU does to one channel.  The model says in which orders it can happen.

A scenario has the calls that prepare it, the port whose lock is under test, and one thread per CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.arch import Arch
from harness.interleave.threads import (
    DOM0,
    DOMU,
    EINVAL,
    FREE,
    INTERDOMAIN,
    PIRQ,
    SETS_PENDING,
    UNBOUND,
    Call,
    Interrupt,
    Thread,
    alloc,
    bind,
    bind_pirq,
    close,
    close_peer,
    dump,
    is_masked,
    new_bound,
    new_unbound,
    poll,
    send,
    unmask,
)
from harness.model.explore.program import Role, System, Variable
from harness.model.lock.call_sites import after, ending, interruptible
from harness.model.lock.flavours import MAX_VIRT_CPUS, Site
from harness.model.lock.lock_functions import TAGS
from harness.model.lock.locks import LOCKS
from harness.model.lock.ticket_lock import ticketed


@dataclass(frozen=True)
class Scenario:
    """Threads that use one channel at the same time."""

    name: str
    description: str
    setup: tuple[Call, ...]  # made one after the other, before the threads start
    lock: str  # the port whose lock is under test
    threads: tuple[Thread, ...]
    state: int  # of that port after the setup
    pending: str = ""  # the port whose pending bit is watched
    masked: bool = False  # the mask of the port under test is set at first, and watched
    arches: tuple[Arch, ...] = tuple(Arch)  # that have what the scenario needs
    # This thread enters Xen's function only when all others stand at the lock: if it ran first,
    # their calls would return before they take the lock.
    arrives_last: int | None = None
    # Xen's calls of the others wait, after their last step, for something that this thread holds
    # until its own last step: they can take their last steps only after it.
    returns_first: int | None = None
    # Comes once, on the first thread's CPU, at any moment; in the orders it is the last thread.
    interrupt: Interrupt | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains whose agents make calls."""
        calls = (*self.setup, *(thread.call for thread in self.threads))
        return tuple(dict.fromkeys(call.domain for call in calls))

    @property
    def vcpus(self) -> int:
        """How many vCPUs dom0 needs; a domU has one."""
        return sum(thread.call.domain == DOM0 for thread in self.threads)

    @property
    def is_raised(self) -> bool:
        """Whether the spare interrupt's line is raised before the threads start: it must have come
        before Xen asks whether its port is masked, and not come unasked in other scenarios."""
        return any(thread.site is Site.MASKED for thread in self.threads)

    def vcpu(self, thread: int) -> int:
        """Return the number of the vCPU, in its domain, that makes the call of ``thread``."""
        domain = self.threads[thread].call.domain
        return sum(each.call.domain == domain for each in self.threads[:thread])

    def owner(self, port: str) -> str:
        """Return the domain that owns ``port``."""
        calls = (*self.setup, *(thread.call for thread in self.threads))
        return next(call.domain for call in calls if call.new_port == port)

    @property
    def writers(self) -> int:
        """How many threads take the lock as a writer."""
        return sum(thread.site is Site.WRITER for thread in self.threads)

    def system(self, design: str, arch: Arch) -> System:
        """Return the scenario as a system of the model of lock ``design``."""
        lock = LOCKS[design]
        several = self.writers > 1  # one writer alone needs no event_lock to be right
        programs = [
            thread.program(design, number, several) for number, thread in enumerate(self.threads)
        ]
        if self.returns_first is not None:
            programs = [
                ending(program, "held") if number == self.returns_first else after(program, "held")
                for number, program in enumerate(programs)
            ]
        if self.interrupt is not None:
            programs = [interruptible(programs[0]), *programs[1:], self.interrupt.program(design)]
        roles = tuple(Role(program, 1) for program in programs)
        watched = [Variable("state", self.state, 0, 6)]
        if self.pending or any(thread.site is Site.SEND for thread in self.threads):
            watched.append(Variable("pending"))
        if self.masked:
            watched.append(Variable("mask", 1))
        if self.interrupt is not None:
            watched.append(Variable("irq"))
        if self.returns_first is not None:
            watched.append(Variable("held", 1))
        results = [Variable(f"rc{number}", 0, EINVAL, 0) for number in range(len(self.threads))]
        words = [v for v in lock.variables if several or v.name != "elock"]
        constants = (("W", MAX_VIRT_CPUS[arch.value]),)
        made = System(self.name, roles, (*words, *watched, *results), constants, tags=TAGS)
        return ticketed(made, "lock") if design == "spinlock" else made


_PAIR = (new_unbound("p"), new_bound("p", "q"))

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
        (new_unbound("p"),),
        "p",
        (send("p"), bind("p")),
        UNBOUND,
    ),
    Scenario(
        "unmask-bind",
        "an unmask of an UNBOUND port that is being bound to",
        (new_unbound("p"),),
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
        (new_unbound("p"), Call("close", (("port", "p"),))),
        "p",
        (poll("p"), alloc("p")),
        FREE,
    ),
    Scenario(
        "poll-bind",
        "a poll of an UNBOUND port that is being bound to",
        (new_unbound("p"),),
        "p",
        (poll("p"), bind("p")),
        UNBOUND,
    ),
    Scenario(
        "close-bind",
        "two writers of one domain: one closes the port that the other binds to",
        (new_unbound("p"),),
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
        "a check whether an interrupt's port is masked, while the port is being closed",
        (Call("bind_pirq", irq="pirq", new_port="v"),),
        "v",
        (close("v"), is_masked()),
        PIRQ,
        masked=True,
        arches=(Arch.X86_64,),
        arrives_last=0,
    ),
    Scenario(
        "dump-bind",
        "debug key i, which looks at an interrupt's port, while it is being bound",
        (new_unbound("v"), Call("close", (("port", "v"),))),
        "v",
        (bind_pirq("v"), dump()),
        FREE,
        arches=(Arch.X86_64,),
        arrives_last=1,
        returns_first=1,  # it holds desc->lock, which evtchn_bind_pirq takes again at its end
    ),
    Scenario(
        "bind-interrupt",
        "an interrupt on the CPU that is binding it",
        (new_unbound("v"), Call("close", (("port", "v"),))),
        "v",
        (bind_pirq("v"),),
        FREE,
        pending="v",
        arches=(Arch.X86_64,),
        interrupt=Interrupt(SETS_PENDING),
    ),
    Scenario(
        "domu-send-close-peer",
        "a domU's send on a port whose other end dom0 closes",
        (new_unbound("u", DOMU, DOM0), new_bound("u", "p", DOMU)),
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
