"""Witnesses: a violation told as a short story, for the person who will fix Xen."""

from __future__ import annotations

import numpy as np

from harness.evidence import Operation
from harness.history import notify, rules
from harness.history.columns import NEVER, Columns
from harness.history.history import DOMID_SELF, ThreadLog
from harness.history.record import Op, Via
from harness.history.scope import FOREIGN, PORT_BITS, Ports, Scope, ports, widen
from harness.history.timeline import ANYTHING, OWNED, Timeline, timeline
from harness.model.releases import Errno

_STATS = {1: "unbound", 2: "interdomain", 3: "PIRQ", 4: "VIRQ", 5: "IPI", OWNED: "open"}
_ERRNO = {int(errno): errno.name for errno in Errno} | {107: "ENOTCONN"}

_CLAIMS = {
    rules.RESULT: "an answer that no state of any port allows",
    rules.ALLOCATION: "a port was given away again while it was still in use",
    rules.VIRQ: "a VIRQ was bound to a second port",
    rules.BIND: "a bind succeeded on a port that was not unbound for the caller",
    rules.ANSWER: "an answer that contradicts the state of the port",
    rules.NOTIFY: "the port notifies a vCPU that nobody bound it to last",
    rules.ORDER: "answers that no order of the operations explains",
    rules.LOST: "an event was sent, and never delivered",
    rules.INVENTED: "an event was delivered that nobody sent",
    rules.MASKED: "an event was delivered while the port was masked",
    rules.STRAY: "an event was delivered on a port that was not open",
}


def story(
    columns: Columns, about: Scope, threads: tuple[ThreadLog, ...], property_: str, culprit: int
) -> str:
    """Tell the violation that ``columns`` (few operations) show, one line per operation."""
    zero = int(columns.call.min())
    names = {log.domid: log.domain for log in threads}
    lines = [claim(property_)]
    for index in range(len(columns)):
        mark = ">>" if columns.row[index] == culprit else "  "
        lines.append(f"{mark} {_line(columns, index, about, threads, names, zero)}")
    lines += [f"   {line}" for line in explain(columns, about, names, property_, culprit)]
    return "\n".join(lines)


def _line(
    columns: Columns,
    index: int,
    about: Scope,
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

    def domain(domid: int) -> str:
        return names.get(log.domid if domid == DOMID_SELF else domid, f"domain {domid}")

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


def _answer(columns: Columns, index: int, op: Op, domain: object) -> str:
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
        assert callable(domain)
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

    def domain(domid: int) -> str:
        return names.get(log.domid if domid == DOMID_SELF else domid, f"domain {domid}")

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
    columns: Columns, about: Scope, names: dict[int, str], property_: str, culprit: int
) -> list[str]:
    """Say what the model allowed and what was seen instead."""
    wide = widen(columns, about)
    whose = ports(wide, about)
    made = timeline(wide, whose, about)
    index = int(np.searchsorted(wide.row, culprit))
    skew = f"clocks of two domains are right to within {max(about.error.values())} ns"
    lines = []
    if property_ in (rules.ANSWER, rules.BIND, rules.ORDER):
        lines += _states(wide, whose, made, names, index)
    if property_ == rules.ANSWER:
        lines.append("Seen: an answer that none of these states gives.")
    elif property_ == rules.BIND:
        lines.append("Allowed: EINVAL. Seen: success.")
    elif property_ == rules.ORDER:
        lines.append(
            "Each answer is possible alone, but each also says what came before it; together "
            "they ask for the marked operation both before and after one instant."
        )
    elif property_ == rules.NOTIFY:
        lines.append(
            "Allowed: the vCPU of the last successful bind_vcpu, or of the bind itself "
            f"(0 for channels). Seen: vCPU {int(notify.told(wide, np.array([index]))[0])}."
        )
    elif property_ == rules.ALLOCATION:
        port = int(wide.result[index])
        lines.append(f"Allowed: any other port; nobody had closed port {port} since it was given.")
    elif property_ == rules.VIRQ:
        lines.append("Allowed: EEXIST, while the first port is open. Seen: success.")
    elif property_ == rules.LOST:
        lines.append(
            "Allowed: the send is dropped only while a writer (bind, close) of the channel is "
            "inside; none was. Else it is delivered; readers waited, and nothing came."
        )
    elif property_ == rules.INVENTED:
        lines.append(
            "Allowed: one delivery for each time the port was set pending. Every send and bind "
            "that could have done so had been delivered before."
        )
    elif property_ == rules.MASKED:
        lines.append("Allowed: no further delivery before the port is enabled again.")
    elif property_ == rules.STRAY:
        lines.append("Allowed: no delivery; no agent of that domain had opened the port by then.")
    return [
        *lines,
        f"(lock flavour {about.flavour.name}, Xen {about.release[0]}.{about.release[1]}; {skew})",
    ]


def _states(
    columns: Columns, whose: Ports, made: Timeline, names: dict[int, str], index: int
) -> list[str]:
    key = int(whose.local[index]) if whose.local[index] != FOREIGN else int(whose.remote[index])
    group = made.lives.find(np.array([key]))
    if group[0] == FOREIGN:
        return []
    call, ret = columns.call[index : index + 1], columns.ret[index : index + 1]
    first, last = made.positions(group, call, ret)
    states = made.state(np.repeat(group, last[0] - first[0] + 1), np.arange(first[0], last[0] + 1))
    told = ", then ".join(dict.fromkeys(_state(int(s), names) for s in states))
    where = f"port {key & 0xFFFFFFFF} of {names.get(key >> PORT_BITS, key >> PORT_BITS)}"
    return [f"During the marked call {where} was: {told}."]


def _state(state: int, names: dict[int, str]) -> str:
    if state == ANYTHING:
        return "free (or not an agent's)"
    number, domid, detail = state >> 48, (state >> PORT_BITS) & 0xFFFF, state & 0xFFFFFFFF
    domain = names.get(domid, f"domain {domid}")
    more = {1: f" for {domain}", 2: f" with {domain} port {detail}", 4: f" {detail}"}
    more[OWNED] = f" to {domain}"
    return _STATS[number] + more.get(number, "")
