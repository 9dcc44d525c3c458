# SPDX-License-Identifier: GPL-2.0-or-later
"""What two CPUs of dom0 do while an order is forced that the machine code leaves open.

Dom0's Linux uses the 2-level ABI, so that the agent can switch the domain to the FIFO ABI.
"""

from __future__ import annotations

from harness.interleave.reorderings import Moved, Reordering
from harness.interleave.scenarios import Scenario
from harness.interleave.threads import (
    INTERDOMAIN,
    UNBOUND,
    Call,
    Thread,
    alloc,
    close,
    new_bound,
    new_unbound,
    poll,
    send,
)
from harness.model.lock.flavours import Site
from harness.model.lock.lock_functions import CriticalSection

_OWN_FRAME = ("frame", 1)  # the agent gives a page of its own
_CONTROL_OF_0 = Call("init_control", numbers=(("vcpu", 0), _OWN_FRAME))
_CONTROL_OF_1 = Call("init_control", numbers=(("vcpu", 1), _OWN_FRAME))


def _init_control(call: Call) -> Thread:
    """EVTCHNOP_init_control, which takes no channel's lock."""

    def nothing(_: str) -> CriticalSection:
        return ()

    return Thread(call, Site.WRITER, nothing)


POLL_CLOSE = Scenario(
    "poll-close",
    "a poll of a port with a pending event that is being closed",
    (new_unbound("p"), new_bound("p", "q"), Call("send", (("port", "q"),))),
    "p",
    (poll("p"), close("p")),
    INTERDOMAIN,
)
SEND_ALLOC = Scenario(
    "send-alloc",
    "a send on the first port of a bucket that is being allocated",
    (),
    "p",
    (send("p"), alloc("p")),
    UNBOUND,
)
SEND_SWITCH = Scenario(
    "send-switch",
    "a send to a domain that switches from the 2-level to the FIFO ABI",
    (new_unbound("p"), new_bound("p", "q")),
    "q",
    (send("q"), _init_control(_CONTROL_OF_0)),
    INTERDOMAIN,
)
SEND_MAP = Scenario(
    "send-map",
    "a send to a vCPU whose control block is being mapped",
    (
        new_unbound("p"),
        new_bound("p", "q"),
        Call("bind_vcpu", (("port", "p"),), numbers=(("vcpu", 1),)),
        _CONTROL_OF_0,
        Call("expand_array", numbers=(_OWN_FRAME,)),
        # The event goes to the first queue, whose head map_control_block() writes first.
        Call("set_priority", (("port", "p"),), numbers=(("priority", 0),)),
    ),
    "q",
    (send("q"), _init_control(_CONTROL_OF_1)),
    INTERDOMAIN,
)
_READ_UNLOCKS = ("evtchn_read_unlock", "_read_unlock")
_WRITTEN = (Moved.STORE_LATE, Moved.FLAG_FIRST)
# By the flag: the scenario, and the function that sees the flag and misses the data there.
_PUBLISHED = {
    "valid_evtchns": (SEND_ALLOC, "evtchn_send"),
    "control_block": (SEND_MAP, "evtchn_fifo_set_pending"),
    "evtchn_port_ops": (SEND_SWITCH, "evtchn_fifo_set_pending"),
}


def scenario_of(reordering: Reordering) -> Scenario | None:
    """Return the scenario in which ``reordering`` shows; None if there is none yet."""
    if not reordering.flag:
        leaves = reordering.function in _READ_UNLOCKS
        return POLL_CLOSE if leaves and reordering.moved is Moved.CHANGE_EARLY else None
    scenario, reader = _PUBLISHED.get(reordering.flag, (None, ""))
    if reordering.moved in _WRITTEN or reordering.function == reader:
        return scenario
    return None
