# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations on event channels, as values.

Every EVTCHNOP, SCHEDOP_poll, what Xen does itself, and what a guest does in shared memory.
``caller`` is the domid of the domain that makes the hypercall.  Fields are named as in Xen's
public headers, and may have any value that the ABI can express.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from harness.model.lock.flavours import Site


class Fault(Enum):
    """Which copy of the argument structure faults (EFAULT), if any."""

    NONE = "none"
    IN = "copy-in"
    OUT = "copy-out"  # after success: what was done stays


@dataclass(frozen=True, slots=True)
class Hypercall:
    """What a guest asks of Xen."""

    caller: int


@dataclass(frozen=True, slots=True)
class AllocUnbound(Hypercall):
    """EVTCHNOP_alloc_unbound: a new port of ``dom`` that ``remote_dom`` may bind to."""

    dom: int
    remote_dom: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class BindInterdomain(Hypercall):
    """EVTCHNOP_bind_interdomain: a new local port connected to an unbound remote one."""

    remote_dom: int
    remote_port: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class BindVirq(Hypercall):
    """EVTCHNOP_bind_virq."""

    virq: int
    vcpu: int = 0
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class BindIpi(Hypercall):
    """EVTCHNOP_bind_ipi."""

    vcpu: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class BindPirq(Hypercall):
    """EVTCHNOP_bind_pirq."""

    pirq: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Close(Hypercall):
    """EVTCHNOP_close."""

    port: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Send(Hypercall):
    """EVTCHNOP_send."""

    port: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Status(Hypercall):
    """EVTCHNOP_status."""

    dom: int
    port: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class BindVcpu(Hypercall):
    """EVTCHNOP_bind_vcpu: move the notify vCPU."""

    port: int
    vcpu: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Unmask(Hypercall):
    """EVTCHNOP_unmask."""

    port: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class SetPriority(Hypercall):
    """EVTCHNOP_set_priority (FIFO only)."""

    port: int
    priority: int
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Reset(Hypercall):
    """EVTCHNOP_reset, or with ``resume`` EVTCHNOP_reset_cont."""

    dom: int
    resume: bool = False
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class InitControl(Hypercall):
    """EVTCHNOP_init_control: switch to FIFO, map ``vcpu``'s control block."""

    vcpu: int
    offset: int = 0  # bytes
    page_ok: bool = True  # the frame exists and is writable
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class ExpandArray(Hypercall):
    """EVTCHNOP_expand_array: one more page (1024 words) of the event array."""

    page_ok: bool = True
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Poll(Hypercall):
    """SCHEDOP_poll by vCPU ``vcpu``."""

    ports: tuple[int, ...]
    vcpu: int = 0
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class UnknownOp(Hypercall):
    """event_channel_op with a command number Xen does not know."""

    cmd: int


@dataclass(frozen=True, slots=True)
class RaiseVirq:
    """Xen raises ``virq`` for ``dom`` (send_guest_vcpu_virq, send_guest_global_virq)."""

    dom: int
    virq: int
    vcpu: int = 0


@dataclass(frozen=True, slots=True)
class RaisePirq:
    """A physical interrupt bound to ``dom`` arrives (send_guest_pirq)."""

    dom: int
    pirq: int


@dataclass(frozen=True, slots=True)
class XenAlloc:
    """alloc_unbound_xen_event_channel: a port of ``dom`` whose consumer is Xen."""

    dom: int
    remote_dom: int
    vcpu: int = 0


@dataclass(frozen=True, slots=True)
class XenFree:
    """free_xen_event_channel."""

    dom: int
    port: int


@dataclass(frozen=True, slots=True)
class XenNotify:
    """notify_via_xen_event_channel."""

    dom: int
    port: int


@dataclass(frozen=True, slots=True)
class Mask:
    """The guest sets a port's MASKED bit itself, in shared memory."""

    dom: int
    port: int


@dataclass(frozen=True, slots=True)
class Consume:
    """The guest takes an event: clears PENDING, and with FIFO unlinks the port."""

    dom: int
    port: int


Operation = (
    AllocUnbound
    | BindInterdomain
    | BindVirq
    | BindIpi
    | BindPirq
    | Close
    | Send
    | Status
    | BindVcpu
    | Unmask
    | SetPriority
    | Reset
    | InitControl
    | ExpandArray
    | Poll
    | UnknownOp
    | RaiseVirq
    | RaisePirq
    | XenAlloc
    | XenFree
    | XenNotify
    | Mask
    | Consume
)

# Where an operation takes the channel's lock.  Those that are missing take only the domain's
# event_lock (status, bind_vcpu, init_control, expand_array) or no lock (what the guest does).
CALL_SITE: dict[type, Site] = {
    AllocUnbound: Site.WRITER,
    BindInterdomain: Site.WRITER,
    BindVirq: Site.WRITER,
    BindIpi: Site.WRITER,
    BindPirq: Site.WRITER,
    Close: Site.WRITER,
    Reset: Site.WRITER,
    XenAlloc: Site.WRITER,
    XenFree: Site.WRITER,
    Send: Site.SEND,
    RaiseVirq: Site.VIRQ,
    RaisePirq: Site.PIRQ,
    XenNotify: Site.XEN_NOTIFY,
    Unmask: Site.UNMASK,
    SetPriority: Site.SET_PRIORITY,
    Poll: Site.POLL,
}


@dataclass(frozen=True, slots=True)
class StatusReply:
    """The answer of EVTCHNOP_status."""

    status: int  # a ChannelState; from a real Xen, maybe another number
    vcpu: int
    dom: int = 0  # unbound, interdomain
    detail: int = 0  # interdomain: remote port; pirq, virq: its number


@dataclass(frozen=True, slots=True)
class Result:
    """What the caller sees."""

    rc: int = 0  # 0 or -errno
    port: int | None = None  # the new port of an allocating operation
    status: StatusReply | None = None
    blocked: bool = False  # SCHEDOP_poll: nothing was pending, and the vCPU went to sleep

    @property
    def code(self) -> int:
        """The one number a history records: the new port, else 0 or -errno."""
        return self.port if self.rc == 0 and self.port is not None else self.rc
