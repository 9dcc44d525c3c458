# SPDX-License-Identifier: GPL-2.0-or-later
"""From an operation of the model to the agent's command, and from its answer to what was observed.

The commands are those of docs/agent-protocol.md; the agent in Linux and the bare guest take them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.agent.polls import FOREVER
from harness.agent.wire import Answer, Arguments
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    ExpandArray,
    Fault,
    InitControl,
    Operation,
    Poll,
    Reset,
    Result,
    Send,
    SetPriority,
    Status,
    StatusReply,
    UnknownOp,
    Unmask,
)
from harness.verdict import HarnessError

_A_FRAME = 1  # one of the guest's own pages

_Call = tuple[str, dict[str, int | str | list[int]]]


@dataclass(frozen=True)
class Observed:
    """What the caller of one hypercall saw."""

    code: int  # the new port, else 0 or -errno
    status: StatusReply | None = None
    blocked: bool | None = None  # SCHEDOP_poll: whether the vCPU went to sleep; None: not known

    def fits(self, result: Result) -> bool:
        """Say whether a hypercall with that ``result`` looks like this."""
        if self.code != result.code:
            return False
        if self.code < 0:
            return True
        asleep = self.blocked is None or self.blocked == result.blocked
        return asleep and (self.status is None or self.status == result.status)


def call(operation: Operation) -> tuple[str, Arguments]:
    """Return verb and arguments of the command that makes ``operation``."""
    verb, arguments = _CALLS[type(operation)](operation)
    fault = getattr(operation, "fault", Fault.NONE)
    if fault is not Fault.NONE:
        arguments["fault"] = {Fault.IN: "in", Fault.OUT: "out"}[fault]
    return verb, arguments


def observed(operation: Operation, answer: Answer) -> Observed:
    """Return what ``answer`` says; HarnessError when the agent did not understand the command."""
    if not answer.ok:
        what = answer.fields.get("what", "")
        if what.startswith("argument-") or what in ("verb", "via", "syntax", "line"):
            raise HarnessError(f"the agent refuses {operation}: {what}")
        return Observed(-answer.integer("errno"))
    if isinstance(operation, Status):
        return Observed(answer.integer("result"), _status(answer))
    return Observed(answer.integer("result"))


def _status(answer: Answer) -> StatusReply:
    return StatusReply(
        *(answer.integer(name) for name in ("state", "vcpu", "remote", "detail")),
    )


# Operation -> verb and arguments.
_CALLS: dict[type, Callable[[Any], _Call]] = {
    AllocUnbound: lambda op: ("alloc_unbound", {"owner": op.dom, "remote": op.remote_dom}),
    BindInterdomain: lambda op: (
        "bind_interdomain",
        {"remote": op.remote_dom, "port": op.remote_port},
    ),
    BindVirq: lambda op: ("bind_virq", {"virq": op.virq, "vcpu": op.vcpu}),
    BindPirq: lambda op: ("bind_pirq", {"pirq": op.pirq}),
    BindIpi: lambda op: ("bind_ipi", {"vcpu": op.vcpu}),
    Close: lambda op: ("close", {"port": op.port}),
    Send: lambda op: ("send", {"port": op.port}),
    Status: lambda op: ("status", {"owner": op.dom, "port": op.port}),
    BindVcpu: lambda op: ("bind_vcpu", {"port": op.port, "vcpu": op.vcpu}),
    Unmask: lambda op: ("unmask", {"port": op.port}),
    Reset: lambda op: ("reset_cont" if op.resume else "reset", {"owner": op.dom}),
    InitControl: lambda op: (
        "init_control",
        {"vcpu": op.vcpu, "offset": op.offset, **({"frame": _A_FRAME} if op.page_ok else {})},
    ),
    ExpandArray: lambda op: ("expand_array", {"frame": _A_FRAME} if op.page_ok else {}),
    SetPriority: lambda op: ("set_priority", {"port": op.port, "priority": op.priority}),
    Poll: lambda op: (
        "poll",
        {"ports": list(op.ports), "timeout": FOREVER, "on": op.vcpu},
    ),
    UnknownOp: lambda op: ("unknown_command", {"number": op.cmd}),
}
