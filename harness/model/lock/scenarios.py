# SPDX-License-Identifier: GPL-2.0-or-later
"""Situations in which the lock is explored: a flavour's call sites, as threads that meet.

``lock_scenario`` is the lock itself under any number of senders and writers.  Each of the others
puts one call site of Xen against a writer.  All are ``System``s; what must never happen is part
of them.  The C that is quoted is from xen/common/event_channel.c and xen/include/xen/event.h of
5f2df45ead7c; "v2" is the posting 20201012092740.1617-3-jgross@suse.com, which counter-v2 models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.model.explore.program import (
    Branch,
    Order,
    Program,
    Role,
    System,
    Variable,
    assign,
    load,
    on,
    rmw,
    store,
)
from harness.model.lock.call_sites import (
    as_interrupt,
    interruptible,
    lets_same_cpu_in,
    reader_program,
    rerouted,
    with_failed_try,
    with_return,
    without_claims,
    writer_program,
)
from harness.model.lock.flavours import MAX_VIRT_CPUS, Site
from harness.model.lock.lock_functions import MUTUAL_EXCLUSION, TAGS
from harness.model.lock.locks import LOCKS

POLL_EINVAL = "poll answers EINVAL only for an unusable port"
POLL_SLEEPS = "poll does not sleep on a pending port"
UNMASK_LOST = "an unmask that returned 0 has cleared the mask"
VIRQ_VCPU = "a VIRQ is delivered on the channel's notify vCPU"


@dataclass(frozen=True)
class Bounds:
    """How many threads, and whose MAX_VIRT_CPUS a writer adds to the counter."""

    readers: int
    writers: int
    arch: str = "x86_64"

    @property
    def at_most_two(self) -> Bounds:
        """The same with at most two of each: few enough to put beside other call sites."""
        return replace(self, readers=min(self.readers, 2), writers=min(self.writers, 2))


Scenario = Callable[[str, Bounds], System]
_Any = TypeVar("_Any", bound=Callable[..., System])


def checked(scenario: _Any) -> _Any:
    """Build the scenario once for every flavour, when it is defined.

    So a mistake in one of its formulas raises ProgramError when the module is imported.
    """
    for flavour in LOCKS:
        scenario(flavour, Bounds(1, 1))
    return scenario


def build_system(
    name: str,
    flavour: str,
    bounds: Bounds,
    roles: tuple[tuple[Program, int], ...],
    variables: tuple[Variable, ...] = (),
) -> System:
    """Put programs together around one channel's lock: ``roles`` are (program, threads)."""
    lock = LOCKS[flavour]
    return System(
        name,
        tuple(Role(program, count) for program, count in roles if count),
        lock.variables + variables,
        (("W", MAX_VIRT_CPUS[bounds.arch]),),
        lock.never,
        rest=lock.rest,
        tags=TAGS,
    )


@checked
def lock_scenario(flavour: str, bounds: Bounds, event_lock: bool = True) -> System:
    """Senders and writers of one channel, for ever.  Writers hold the event_lock, or do not."""
    writer = LOCKS[flavour].write("writer", (), "evtchn_close", event_lock)
    roles = ((reader_program(flavour, Site.SEND), bounds.readers), (writer, bounds.writers))
    return build_system("lock", flavour, bounds, roles)


@checked
def mixed(flavour: str, bounds: Bounds) -> System:
    """Senders, which may block, beside a VIRQ sender, which may not."""
    few = bounds.at_most_two
    roles = (
        (reader_program(flavour, Site.SEND), few.readers),
        (reader_program(flavour, Site.VIRQ), 1),
        (writer_program(flavour), few.writers),
    )
    return build_system("mixed", flavour, bounds, roles)


@checked
def poll_unusable(flavour: str, bounds: Bounds) -> System:
    """SCHEDOP_poll of a port that is valid but FREE, and the allocation that returns it."""
    # evtchn_port_poll():
    #     if ( evtchn_usable(evtchn) )
    #         rc = evtchn_is_pending(d, evtchn);
    #     evtchn_read_unlock(evtchn);
    # v2 unlocks only a usable channel:
    #     if ( evtchn_tryread_lock(evtchn) && evtchn_usable(evtchn) )
    #     {
    #         rc = evtchn_is_pending(d, evtchn);
    #         evtchn_read_unlock(evtchn);
    #     }
    test = load(
        "test",
        "usable",
        "evtchn_port_poll: evtchn_usable",
        on("usable == 1", ""),
        on("usable == 0", "read" if flavour == "counter-v2" else ""),
    )
    poll = reader_program(flavour, Site.POLL, (test,)).once()
    # chn->state = ECS_UNBOUND;
    bind = store("bind", "usable", "evtchn_alloc_unbound: state", assign("", usable=1))
    alloc = writer_program(flavour, "evtchn_alloc_unbound", (bind,), "alloc")
    roles = ((poll, 1), (alloc, bounds.at_most_two.writers))
    return build_system("poll-unusable", flavour, bounds, roles, (Variable("usable"),))


@checked
def poll_bind(flavour: str, bounds: Bounds) -> System:
    """SCHEDOP_poll of an UNBOUND port while the peer binds to it: usable throughout."""
    poll = reader_program(flavour, Site.POLL)
    if flavour == "counter-v2":
        # evtchn_port_poll(), see poll_unusable:
        #     int rc = -EINVAL;
        # It is returned as it is when evtchn_tryread_lock() fails.
        at = "evtchn_port_poll: rc is still -EINVAL"
        poll = with_failed_try(poll, at, POLL_EINVAL, "0 == 1")
    writer = writer_program(flavour, "evtchn_bind_interdomain", name="bind")
    roles = ((poll, 1), (writer, bounds.at_most_two.writers))
    return build_system("poll-bind", flavour, bounds, roles)


@checked
def masked(flavour: str, bounds: Bounds) -> System:
    """PHYSDEVOP_IRQ_UNMASK_NOTIFY asks whether a port is masked, beside senders and writers."""
    few = bounds.at_most_two
    query = without_claims(reader_program(flavour, Site.MASKED))
    if flavour == "counter-v2":
        # evtchn_port_is_masked(), v2: the read side is released even if the try has failed.
        #     if ( evtchn_tryread_lock(evtchn) )
        #         rc = evtchn_is_masked(d, evtchn);
        #     evtchn_read_unlock(evtchn);
        release = replace(query.step("leave"), name="release", tags=())
        query = query.edit("read", lambda step: rerouted(step, "read", "release"))
        query = query.edit("undo", lambda step: rerouted(step, "read", "release"))
        query = replace(query, steps=(*query.steps, release))
    roles = (
        (query.once(), 1),
        (reader_program(flavour, Site.SEND), min(few.readers, 1)),
        (writer_program(flavour), few.writers),
    )
    return build_system("masked", flavour, bounds, roles)


@checked
def unmask(flavour: str, bounds: Bounds) -> System:
    """EVTCHNOP_unmask of an UNBOUND port while the peer binds to it."""
    # evtchn_unmask():
    #     evtchn_port_unmask(d, evtchn);
    #     return 0;
    # v2 does the first only if evtchn_tryread_lock(evtchn) succeeds, the second always.
    clear = store("clear", "mask", "evtchn_unmask: port_unmask", assign("", mask=0))
    ask = without_claims(reader_program(flavour, Site.UNMASK, (clear,)))
    ask = with_return(ask, "evtchn_unmask: return 0", UNMASK_LOST, "mask == 0").once()
    writer = writer_program(flavour, "evtchn_bind_interdomain", name="bind")
    roles = ((ask, 1), (writer, bounds.at_most_two.writers))
    return build_system("unmask", flavour, bounds, roles, (Variable("mask", 1),))


@checked
def global_virq(flavour: str, bounds: Bounds) -> System:
    """A global VIRQ is raised while EVTCHNOP_bind_vcpu moves the channel to vCPU 1."""
    # send_guest_global_virq():
    #     evtchn_port_set_pending(d, chn->notify_vcpu_id, chn);
    # v2, where v is the domain's vCPU 0:
    #     evtchn_port_set_pending(d, v->vcpu_id, chn);
    to_0 = Branch("notify == 0", "", requires="notify == 0", claim=VIRQ_VCPU)
    to_1 = Branch("notify == 1", "", requires="notify == 1", claim=VIRQ_VCPU)
    always_0 = Branch("", "", requires="notify == 0", claim=VIRQ_VCPU)
    branches = (always_0,) if flavour == "counter-v2" else (to_0, to_1)
    at = "send_guest_global_virq: evtchn_port_set_pending"
    virq = reader_program(flavour, Site.VIRQ, (load("deliver", "notify", at, *branches),))
    # evtchn_bind_vcpu() takes only the domain's event_lock:
    #     chn->notify_vcpu_id = v->vcpu_id;
    event_lock = "evtchn_bind_vcpu, event_lock"
    move = Program(
        "bind_vcpu",
        (
            rmw("lock", "elock", event_lock, on("elock == 0", "move", elock=1)),
            store("move", "notify", "evtchn_bind_vcpu", assign("unlock", notify=1)),
            rmw("unlock", "elock", event_lock, on("", "lock", elock=-1)),
        ),
    ).once()
    roles = ((virq, 1), (move, 1))
    return build_system("global-virq", flavour, bounds, roles, (Variable("notify"),))


@checked
def interrupt(flavour: str, bounds: Bounds) -> System:
    """A VIRQ in an interrupt on the CPU where a writer runs, at any moment; senders elsewhere."""
    virq = reader_program(flavour, Site.VIRQ)
    if flavour == "rwlock":
        virq = lets_same_cpu_in(virq)
    roles = (
        (as_interrupt(virq), 1),
        (interruptible(writer_program(flavour)), 1),
        (reader_program(flavour, Site.SEND), bounds.at_most_two.readers),
    )
    made = build_system("interrupt", flavour, bounds, roles, (Variable("irq"),))
    if flavour == "rwlock":  # by design: a CPU may read what it has write-locked itself
        never = tuple(n for n in made.never if n.name != MUTUAL_EXCLUSION)
        return replace(made, never=never)
    return made


@checked
def xen_consumer(flavour: str, bounds: Bounds, under_lock: bool = True) -> System:
    """A send calls a Xen consumer, which takes vm_event's lock; vm_event frees its port.

    Until 1376ef90d31c (4.15) the consumer was called ``under_lock``.
    """
    # evtchn_send(), before 1376ef90d31c, where fn is monitor_notification():
    #     if ( consumer_is_xen(rchn) )
    #         xen_notification_fn(rchn)(rd->vcpu[rchn->notify_vcpu_id], rport);
    call = rmw("call", "vm", "monitor_notification: vm_event lock", on("vm == 0", "back", vm=1))
    back = rmw("back", "vm", "monitor_notification: vm_event unlock", on("", "", vm=-1))
    sender = reader_program(flavour, Site.SEND, (call, back) if under_lock else ())
    # vm_event_disable():
    #     spin_lock(&ved->lock);
    #     free_xen_event_channel(d, ved->xen_port);
    #     spin_unlock(&ved->lock);
    free = writer_program(flavour, "free_xen_event_channel", name="vm_event")
    start = rmw("vm", "vm", "vm_event_disable: vm_event lock", on("vm == 0", "lock", vm=1))
    end = rmw(
        "vmend", "vm", "vm_event_disable: vm_event unlock", on("", "vm", vm=-1), order=Order.RELEASE
    )
    inner = (rerouted(step, "lock", "vmend") for step in free.steps)
    free = replace(free, steps=(start, *inner, end))
    roles = ((sender, min(bounds.readers, 2)), (free, 1))
    return build_system("xen-consumer", flavour, bounds, roles, (Variable("vm"),))


@checked
def leak(flavour: str, bounds: Bounds) -> System:
    """One reader gets in and never releases: what becomes of the others?"""
    thief = reader_program(flavour, Site.SEND, (), "leak")
    first = thief.steps[0].name
    thief = thief.edit("leave", lambda step: replace(step, branches=(on("", first),)))
    few = bounds.at_most_two
    senders = (reader_program(flavour, Site.SEND), few.readers)
    roles = ((thief.once(), 1), senders, (writer_program(flavour), 1))
    return build_system("leak", flavour, bounds, roles)


@checked
def poll_pending(flavour: str, bounds: Bounds) -> System:
    """SCHEDOP_poll of a port that is pending all the time, while the peer closes its end."""
    # do_poll(), which goes to sleep if no port answers:
    #     rc = evtchn_port_poll(d, port);
    #     if ( rc )
    #     {
    #         ...
    #         goto out;
    #     }
    poll = reader_program(flavour, Site.POLL)
    poll = with_failed_try(poll, "do_poll: the vCPU goes to sleep", POLL_SLEEPS, "0 == 1")
    roles = ((poll, 1), (writer_program(flavour), bounds.at_most_two.writers))
    return build_system("poll-pending", flavour, bounds, roles)


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
