# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence in words: the one place where what was seen becomes sentences.

Exceptions take their text from here; terminal, report, JUnit, mail and KCIDB show that text.
Nothing reads it back: who decides on a failure looks at the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.evidence.identity import Identity
from harness.evidence.kinds import (
    DONE,
    Arguments,
    Assertion,
    Backtrace,
    BringUp,
    Crash,
    Departure,
    Difference,
    Disallowed,
    Evidence,
    Hang,
    InFlight,
    Leak,
    LockFault,
    Operation,
    Spin,
    Stand,
    UnforeseenEnd,
    WrongAnswer,
    WrongEvents,
    WrongState,
)

_DOMID_SELF = 0x7FF0  # xen/include/public/xen.h


def message(evidence: Evidence) -> str:
    """Return ``evidence`` in one line."""
    match evidence:
        case Hang():
            who = "xen-shim" if evidence.in_shim else "Xen"
            return f"{who} hangs: {_spins(evidence.cpus)}"
        case Crash():
            return f"{evidence.what}: {evidence.text}"
        case Disallowed():
            return f"{evidence.property} ({evidence.found} in all)"
        case WrongAnswer():
            allowed = "; ".join(evidence.allowed)
            after = f"after {_call(evidence.after)}: " if evidence.after else ""
            return (
                f"{after}{_call(evidence.operation)}: {_who(evidence.release)} answered "
                f"{evidence.seen}, "
                f"the model of {evidence.release} allows {allowed}"
            )
        case WrongState():
            told = ", ".join(
                f"{one.name} is {one.seen:#x}, not {one.expected:#x}"
                for one in evidence.differences
            )
            return (
                f"{evidence.domain}: port {evidence.port}, vCPU {evidence.vcpu}: {told}: "
                f"so says the model of {evidence.release}"
            )
        case WrongEvents():
            return (
                f"{evidence.domain}: vCPU {evidence.vcpu} finds events of ports "
                f"{list(evidence.seen)}, the model of {evidence.release} says "
                f"{list(evidence.expected)}"
            )
        case Departure():
            return _departure(evidence)
        case UnforeseenEnd():
            results = ", ".join(map(str, evidence.results))
            return f"ended as the model never does: results {results}; {evidence.state}"
        case Leak():
            return f"not as before the run: {', '.join(one.what for one in evidence.changes)}"
        case BringUp():
            return _bring_up(evidence)
        case Assertion():
            return f"{evidence.file}:{evidence.line}: not so: {evidence.expression}"
        case InFlight():
            return _in_flight(evidence)


def story(evidence: Evidence) -> str:
    """Return what there is to read of ``evidence`` besides, in lines; may be empty."""
    match evidence:
        case Hang():
            return "\n".join(map(backtrace, evidence.backtraces))
        case Leak():
            return "\n".join(
                f"{one.what}:\n  gone:  {one.before or '-'}\n  new:   {one.after or '-'}"
                for one in evidence.changes
            )
        case BringUp():
            return "\n".join(evidence.last_words)
        case _:
            return ""


def spin(seen: Spin) -> str:
    """Return what one spinning CPU means."""
    head = f"CPU{seen.cpu} spins in {seen.function}"
    head += f" ({_operation(seen)})" if seen.operation else ""
    if seen.circle or not seen.cause:
        return f"{head}{_waits(seen)}"
    if seen.port is not None:
        head += f" on {_lock(seen)}"
    elif lock := _lock(seen):
        head += f" for {lock}"
    if seen.holder is not None:
        return f"{head}, which CPU{seen.holder} holds"
    if seen.word is None:
        return head
    head += f": lock word = {seen.word}"
    match seen.fault:
        case LockFault.UNDERFLOW:
            return f"{head}, below zero: a read side was released more often than taken"
        case LockFault.LEAKED_READER:
            readers = f"{seen.readers} reader{'s' if seen.readers != 1 else ''}"
            return (
                f"{head} = one writer + {readers}: "
                "a read side that no CPU holds any more was never released"
            )
        case LockFault.WRITERS:
            return f"{head} = {seen.writers} writers: each waits for the other"
        case None:
            return head


def _spins(seen: Iterable[Spin]) -> str:
    circle = "; ".join(spin(one) for one in seen if one.circle)
    told = [f"{circle}: each waits for the other"] if circle else []
    return "; ".join([*told, *(spin(one) for one in seen if not one.circle)])


def _waits(seen: Spin) -> str:
    """Return what a CPU waits for that is not to blame alone."""
    lock = _lock(seen)
    told = f" for {lock}" if lock else ""
    told += f", which CPU{seen.holder} holds" if seen.holder is not None else ""
    if seen.circle and seen.holds:
        return f"{told}, and holds {' and '.join(seen.holds)}"
    return told


def _operation(seen: Spin) -> str:
    """Return on whose behalf a CPU wants a lock, and on what where the lock does not say it."""
    domain, port = seen.operation_domain, seen.operation_port
    if port is None or (domain, port) == (seen.domain, seen.port):
        return seen.operation
    return f"{seen.operation} of port {port} of {domain}"


def _lock(seen: Spin) -> str:
    """Return whose lock it is that a CPU wants; "" where that is not known."""
    if seen.port is not None:
        return f"port {seen.port}{f' of {seen.domain}' if seen.domain else ''}"
    if seen.domain:
        return f"{seen.domain}'s {seen.lock}"
    return seen.lock if seen.lock != "lock" else ""  # a channel's, whose memory could not be read


def backtrace(seen: Backtrace) -> str:
    """Return where one CPU was, in a line."""
    return f"CPU{seen.cpu}: {' < '.join(seen.frames) or 'in its guest'}"


def operation(seen: Operation) -> str:
    """Return who made an operation, and the call."""
    cpu = f" cpu{seen.vcpu}" if seen.vcpu is not None else ""
    return f"{seen.domain}{cpu} {_call(seen)}"


def identity(seen: Identity) -> str:
    """Return which failure it is."""
    site = f" in {seen.site}" if seen.site else ""
    return f"{seen.kind}{site}{f' ({seen.shape})' if seen.shape else ''}"


def after(symptom: object) -> str:
    """Return what was noticed first, before the CPUs were looked at."""
    return f"seen after {symptom}"


def _bring_up(seen: BringUp) -> str:
    if not seen.domain:
        return f"the host does not come up: {seen.stage}"
    if seen.late and seen.step:
        told = f"{seen.domain} is late with {seen.step}"
    else:
        told = f"{seen.domain} does not come up"
    told += f", in {seen.tries} boots" if seen.tries > 1 else ""
    told += f": {seen.step} failed" if seen.step and not seen.late else ""
    told += f": {seen.reason}" if seen.reason else ""
    if seen.elsewhere:
        told += f"; with another Xen the same images came up here: {seen.elsewhere}"
    return told


def _in_flight(seen: InFlight) -> str:
    if seen.milliseconds is None:
        return f"{_command(seen.verb, seen.arguments)!r} has not come back from Xen"
    what = f"{seen.verb.upper()} of port {seen.arguments.get('port')}"
    return f"thread {seen.thread}: {what} not back after {seen.milliseconds} ms"


def _who(release: str) -> str:
    return "QEMU" if release == "QEMU" else "Xen"


def _call(seen: Operation) -> str:
    told = (
        f"{name.replace('_', ' ')} {_domid(name, value)}" for name, value in seen.arguments.items()
    )
    return f"{seen.verb}({', '.join(told)})"


def _domid(name: str, value: int | str) -> int | str:
    return "DOMID_SELF" if name in ("dom", "remote_dom") and value == _DOMID_SELF else value


def _command(verb: str, arguments: Arguments) -> str:
    return " ".join([verb, *(f"{name}={value}" for name, value in arguments.items())])


def _departure(seen: Departure) -> str:
    parts = [_stand(seen.stand)] if seen.stand else []
    parts += _differences(seen.differences)
    if seen.avoided:
        parts.append(f"{_names(seen.avoided)} comes back and has never touched the lock")
    told = ", ".join(parts)
    lost = f"{_names(seen.lost)} never comes back" if seen.lost else ""
    return "; ".join(filter(None, (told, lost)))


def _stand(seen: Stand) -> str:
    who = f"the interrupt on CPU{seen.cpu}" if seen.interrupt else f"CPU{seen.cpu}"
    if seen.underflow is not None:
        return (
            f"{who} releases a read side that it did not get, at {seen.where}: "
            f"lock word = {seen.underflow}, and below zero as soon as no other CPU is inside"
        )
    if seen.step == DONE:
        return f"{who} is done in the model, but stands at {seen.where}"
    if not seen.function:
        return f"{who} goes back to the guest, the model has it at {seen.step!r}"
    return f"{who} stands at {seen.where}, the model has it at {seen.step!r}"


def _differences(seen: Iterable[Difference]) -> list[str]:
    return [f"{one.name} is {one.seen}, not {one.expected}" for one in seen]


def _names(seen: Iterable[Operation]) -> str:
    return " and ".join(f"{one.verb} on CPU{one.vcpu}" for one in seen)
