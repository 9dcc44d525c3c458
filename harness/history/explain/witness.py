# SPDX-License-Identifier: GPL-2.0-or-later
"""Witnesses: the few operations that show a violation, as text for the person who will fix Xen.

First the rule, then one line per operation (the one that cannot be explained is marked >>), then
what the model allowed and what was seen instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from harness.evidence import Operation
from harness.history.check import rules
from harness.history.check.changes import find_timeline
from harness.history.check.notify_vcpu import vcpu_told
from harness.history.check.piece import Piece, prepare
from harness.history.check.ports import FOREIGN, PORT_BITS, PORT_MASK
from harness.history.check.scope import Scope
from harness.history.check.states import ANYTHING, OPEN, domid_of, stat_of
from harness.history.format.columns import NEVER, Columns
from harness.history.format.history import ThreadLog
from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import DOMID_SELF, ChannelState, Errno

_STATS = {
    int(ChannelState.UNBOUND): "unbound",
    int(ChannelState.INTERDOMAIN): "interdomain",
    int(ChannelState.PIRQ): "PIRQ",
    int(ChannelState.VIRQ): "VIRQ",
    int(ChannelState.IPI): "IPI",
}
_ERRNO = {int(errno): errno.name for errno in Errno} | {107: "ENOTCONN"}

_CLAIMS = {
    rules.RESULT: "an answer that no state of any port allows",
    rules.ALLOCATION: "a port was given away again while it was still in use",
    rules.VIRQ: "a VIRQ was bound to a second port",
    rules.BIND: "a bind succeeded on a port that was not unbound for the caller",
    rules.ANSWER: "an answer that contradicts the state of the port",
    rules.NOTIFY: "the port notifies another vCPU than the one it was bound to last",
    rules.ORDER: "answers that no order of the operations explains",
    rules.LOST: "an event was sent, and never delivered",
    rules.INVENTED: "an event was delivered that nobody sent",
    rules.MASKED: "an event was delivered while the port was masked",
    rules.STRAY: "an event was delivered on a port that was not open",
}


def story(
    columns: Columns, scope: Scope, threads: tuple[ThreadLog, ...], property_: str, culprit: int
) -> str:
    """Return the witness of the violation that ``columns`` (few operations) show.

    ``culprit``: row of the operation that cannot be explained.
    """
    zero = int(columns.call.min())
    names = {log.domid: log.domain for log in threads}
    lines = [claim(property_)]
    for index in range(len(columns)):
        mark = ">>" if columns.row[index] == culprit else "  "
        lines.append(f"{mark} {_line(columns, index, threads, names, zero)}")
    lines += [f"   {line}" for line in explain(columns, scope, names, property_, culprit)]
    return "\n".join(lines)


def _line(
    columns: Columns,
    index: int,
    threads: tuple[ThreadLog, ...],
    names: dict[int, str],
    zero: int,
) -> str:
    log = threads[columns.log[index]]
    begin = (int(columns.call[index]) - zero) / 1000
    flying = columns.ret[index] == NEVER
    end = "never returned" if flying else f"{(int(columns.ret[index]) - zero) / 1000:.3f}"
    when = f"[{begin:12.3f} .. {end:>12}] us"
    return f"{when}  {log.name:<9} cpu{columns.cpu[index]}  {describe(columns, index, log, names)}"


def describe(columns: Columns, index: int, log: ThreadLog, names: dict[int, str]) -> str:
    """Return operation ``index`` as a call with its answer: "send(port 5) = 0"."""
    op = Op(columns.op[index])
    port, arg = int(columns.port[index]), int(columns.arg[index])
    domain = partial(_domain_name, log, names)
    arguments = {
        Op.ALLOC_UNBOUND: f"{domain(port)}, for {domain(arg)}",
        Op.BIND_INTERDOMAIN: f"{domain(arg)} port {port}",
        Op.BIND_VIRQ: f"virq {port}, vcpu {arg}",
        Op.BIND_IPI: f"vcpu {arg}",
        Op.BIND_VCPU: f"port {port}, vcpu {arg}",
        Op.SET_PRIORITY: f"port {port}, priority {arg}",
        Op.POLL: f"port {port}, {arg} us",
    }.get(op, f"port {port}")
    via = " on /dev/xen/evtchn" if columns.via[index] == Via.DEVICE else ""
    return f"{op.name.lower()}({arguments}){via} = {_answer(columns, index, op, domain)}"


def _domain_name(log: ThreadLog, names: dict[int, str], domid: int) -> str:
    """Return the name of ``domid``, as the domain of ``log`` meant it."""
    return names.get(log.domid if domid == DOMID_SELF else domid, f"domain {domid}")


def _answer(columns: Columns, index: int, op: Op, domain: Callable[[int], str]) -> str:
    if columns.ret[index] == NEVER:
        return "?"
    result = int(columns.result[index])
    if result < 0:
        return f"-{_ERRNO.get(-result, -result)}"
    if op in (Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_IPI):
        return f"port {result}"
    if op is Op.STATUS:
        number, vcpu, domid = result & 0xFF, (result >> 8) & 0xFF, (result >> 16) & 0xFFFF
        arg = int(columns.arg[index])
        detail = {1: f" for {domain(domid)}", 2: f" with {domain(domid)} port {arg}", 4: f" {arg}"}
        return f"{_STATS.get(number, 'closed')}{detail.get(number, '')}, vcpu {vcpu}"
    return str(result)


def claim(property_: str) -> str:
    """Return what is wrong where ``property_`` is violated."""
    return f"{property_}: {_CLAIMS[property_]}"


def operations(columns: Columns, threads: tuple[ThreadLog, ...]) -> tuple[Operation, ...]:
    """Return the operations of a witness as values, in the order of their calls."""
    zero = int(columns.call.min()) if len(columns) else 0
    names = {log.domid: log.domain for log in threads}
    return tuple(
        _operation(columns, index, threads[columns.log[index]], names, zero)
        for index in range(len(columns))
    )


def _operation(
    columns: Columns, index: int, log: ThreadLog, names: dict[int, str], zero: int
) -> Operation:
    op = Op(columns.op[index])
    port, arg = int(columns.port[index]), int(columns.arg[index])
    domain = partial(_domain_name, log, names)
    known: dict[Op, dict[str, int | str]] = {
        Op.ALLOC_UNBOUND: {"dom": domain(port), "remote_dom": domain(arg)},
        Op.BIND_INTERDOMAIN: {"remote_dom": domain(arg), "remote_port": port},
        Op.BIND_VIRQ: {"virq": port, "vcpu": arg},
        Op.BIND_IPI: {"vcpu": arg},
        Op.BIND_VCPU: {"port": port, "vcpu": arg},
        Op.SET_PRIORITY: {"port": port, "priority": arg},
        Op.POLL: {"port": port, "timeout_us": arg},
    }
    flying = columns.ret[index] == NEVER
    return Operation(
        domain=log.domain,
        vcpu=int(columns.cpu[index]),
        verb=op.name.lower(),
        arguments=known.get(op, {"port": port}),
        result=None if flying else int(columns.result[index]),
        begin=(int(columns.call[index]) - zero) / 1000,
        end=None if flying else (int(columns.ret[index]) - zero) / 1000,
    )


def explain(
    columns: Columns, scope: Scope, names: dict[int, str], property_: str, culprit: int
) -> list[str]:
    """Say what the model allowed and what was seen instead."""
    piece = prepare(columns, scope)
    index = int(np.searchsorted(piece.columns.row, culprit))
    lines = []
    if property_ in (rules.ANSWER, rules.BIND, rules.ORDER):
        lines += _states(piece, names, index)
    if property_ in _ALLOWED:
        vcpu = int(vcpu_told(piece.columns, np.array([index]))[0])
        lines.append(_ALLOWED[property_].format(port=int(piece.columns.result[index]), vcpu=vcpu))
    skew = f"the domains' clocks are right to within {max(scope.clock_error.values())} ns"
    release = f"Xen {scope.rules or '{}.{}'.format(*scope.release)}"
    return [*lines, f"(lock flavour {scope.flavour.name}, {release}; {skew})"]


_ALLOWED = {
    rules.ALLOCATION: "Allowed: any other port. Nobody had closed port {port} since it was given "
    "away the last time.",
    rules.VIRQ: "Allowed: EEXIST, while the first port is open. Seen: success.",
    rules.BIND: "Allowed: EINVAL. Seen: success.",
    rules.ANSWER: "Seen: an answer that none of these states gives.",
    rules.NOTIFY: "Allowed: the vCPU that the last successful bind_vcpu named; if there was none, "
    "the one that bind_virq or bind_ipi named, and 0 for other ports. Seen: vCPU {vcpu}.",
    rules.ORDER: "Each answer alone is possible. But it also says which operations took effect "
    "before it, and in no order of the operations is every answer right.",
    rules.LOST: "Allowed: a delivery. Some lock flavours may drop a send or an unmask, but only "
    "while a bind or close of the channel holds the lock, and none did. Seen: no delivery, "
    "although readers waited until no more events came.",
    rules.INVENTED: "Allowed: one delivery for each send or bind that set the port pending. "
    "Each of them had been delivered before, or came too late to cause this delivery.",
    rules.MASKED: "Allowed: no delivery. Nobody had enabled the port since the delivery before.",
    rules.STRAY: "Allowed: no delivery. No agent of that domain had opened the port by then.",
}


def _states(piece: Piece, names: dict[int, str], index: int) -> list[str]:
    """Say in which states the port of operation ``index`` can have been during the call."""
    timeline, ports = find_timeline(piece), piece.ports
    key = int(ports.local[index]) if ports.local[index] != FOREIGN else int(ports.remote[index])
    channel = piece.lifetimes.find(np.array([key]))
    if channel[0] == FOREIGN:
        return []
    call, ret = piece.columns.call[index : index + 1], piece.columns.ret[index : index + 1]
    first, last = timeline.positions(channel, call, ret)
    position = np.arange(first[0], last[0] + 1)
    states = timeline.state(np.repeat(channel, len(position)), position)
    told = ", then ".join(dict.fromkeys(_state(int(s), names) for s in states))
    where = f"port {key & PORT_MASK} of {names.get(key >> PORT_BITS, key >> PORT_BITS)}"
    return [f"During the marked call {where} was: {told}."]


def _state(state: int, names: dict[int, str]) -> str:
    if state == ANYTHING:
        return "free, or a kernel's"
    stat, domid, detail = stat_of(state), domid_of(state), state & PORT_MASK
    domain = names.get(domid, f"domain {domid}")
    if stat == OPEN:
        return f"unbound for {domain}, or connected to it"
    more = {1: f" for {domain}", 2: f" with {domain} port {detail}", 4: f" {detail}"}
    return _STATS[stat] + more.get(stat, "")
