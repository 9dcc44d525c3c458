# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of evidence: one frozen dataclass each, told apart in JSON by ``kind``.

They are kept in journals: a new field gets a default, so that evidence written before it still
reads.  Fields hold what was seen, never a sentence about it; ``None`` and "" mean that it is not
known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Arguments = dict[str, int | str]


DONE = "done"  # a step: the model's thread has come to its end


class LockFault(StrEnum):
    """What a lock's word proves, if anything."""

    LEAKED_READER = "leaked-reader"  # one writer waits for readers that are no longer there
    WRITERS = "writers"  # several writers, each of which waits for the others
    UNDERFLOW = "underflow"  # below zero: a read side was released more often than taken


@dataclass(frozen=True, kw_only=True)
class Spin:
    """A CPU that goes round in a lock function of Xen."""

    cpu: int
    function: str  # "evtchn_write_lock"
    where: str  # "evtchn_write_lock+0x1a/0x30"
    port: int | None = None  # of the channel whose lock it is
    word: int | None = None  # the lock word as it was read
    writers: int | None = None  # what the word counts, where it is a counter
    readers: int | None = None
    fault: LockFault | None = None
    cause: bool = True  # False: it waits for what another of these CPUs keeps
    operation: str = ""  # on whose behalf it wants the lock: "evtchn_close"
    operation_domain: str = ""  # that it works on: "d0"
    operation_port: int | None = None
    domain: str = ""  # whose lock it is: "d0", of a vCPU's "d0v1"; "": a global one, or not known
    lock: str = ""  # the lock's name: "event_lock"; of a channel's "lock"
    holder: int | None = None  # the CPU that keeps it from the lock
    holds: tuple[str, ...] = ()  # locks that it holds itself: "d1's event_lock"
    circle: bool = False  # it waits for a CPU that waits for it, itself or through others


@dataclass(frozen=True, kw_only=True)
class Backtrace:
    """Where a CPU was, and through whom it came there: innermost first; none: in its guest."""

    cpu: int
    frames: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Hang:
    """CPUs that spin in locks of Xen and will not come back."""

    kind: Literal["hang"] = "hang"
    cpus: tuple[Spin, ...]
    backtraces: tuple[Backtrace, ...] = ()
    in_shim: bool = False  # in xen-shim, whose guest hangs; Xen underneath is well


@dataclass(frozen=True, kw_only=True)
class Crash:
    """Xen, a kernel or the machine died, and a console said so."""

    kind: Literal["crash"] = "crash"
    what: str  # assertion, bug, panic...: harness.hypervisor.console
    stream: str  # of the console: xen, dom0, domu1...
    text: str  # of the line, without its time stamp
    file: str = ""  # of Xen's source
    line: int | None = None
    expression: str = ""  # that an assertion found to be false


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation on event channels that a domain made."""

    domain: str  # dom0, domu1...
    vcpu: int | None = None
    verb: str  # alloc_unbound, send...
    arguments: Arguments
    result: int | None = None  # -errno on failure; None: it did not come back
    begin: float | None = None  # us since the first operation of the witness
    end: float | None = None  # None: it did not come back


@dataclass(frozen=True, kw_only=True)
class Disallowed:
    """A recorded history that the model does not allow, cut down to its witness."""

    kind: Literal["disallowed"] = "disallowed"
    property: str  # that is violated: harness.history.rules; lost-event, invented-event...
    culprit: Operation | None = None  # cannot be explained
    operations: tuple[Operation, ...] = ()  # of the witness, in the order of their calls
    found: int = 1  # violations in the whole history


@dataclass(frozen=True, kw_only=True)
class WrongAnswer:
    """Xen answered a single operation as the model of its release does not allow."""

    kind: Literal["wrong-answer"] = "wrong-answer"
    operation: Operation
    seen: str  # the answer: "-EINVAL", "4 at once"
    allowed: tuple[str, ...]  # answers, each with its row of the specification
    release: str  # "4.17"
    after: Operation | None = None  # whose effect was looked at, if the operation only looks


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value that is not what the model has."""

    name: str
    seen: int
    expected: int


@dataclass(frozen=True, kw_only=True)
class WrongState:
    """What Xen wrote into a guest's memory for a port is not what the model has."""

    kind: Literal["wrong-state"] = "wrong-state"
    domain: str
    port: int
    vcpu: int
    differences: tuple[Difference, ...]
    release: str


@dataclass(frozen=True, kw_only=True)
class WrongEvents:
    """A vCPU found other events than the model says: some were lost, or invented."""

    kind: Literal["wrong-events"] = "wrong-events"
    domain: str
    vcpu: int
    seen: tuple[int, ...]  # ports
    expected: tuple[int, ...]
    release: str


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A CPU that is at another step than the model's thread."""

    cpu: int
    interrupt: bool = False  # it is the interrupt handler on that CPU
    step: str  # the model's, that comes next; DONE: none
    function: str = ""  # Xen's, at whose lock access it stands; "": it goes back to the guest
    where: str = ""  # "evtchn_read_unlock+0x13/0x35"
    # It releases a read side that it did not get: the lock word after that, None if not so.
    underflow: int | None = None


@dataclass(frozen=True, kw_only=True)
class Departure:
    """A forced order of steps in which the machine did not go with the model."""

    kind: Literal["departure"] = "departure"
    stand: Stand | None = None
    differences: tuple[Difference, ...] = ()  # variables of the lock, results of operations
    avoided: tuple[Operation, ...] = ()  # came back and had never touched the lock
    lost: tuple[Operation, ...] = ()  # never came back


@dataclass(frozen=True, kw_only=True)
class UnforeseenEnd:
    """Operations that met ended as the model never does."""

    kind: Literal["unforeseen-end"] = "unforeseen-end"
    scenario: str
    results: tuple[int, ...]  # by thread of the scenario: 0, or -errno
    state: str  # of the port whose lock is under test: FREE, UNBOUND...


@dataclass(frozen=True, kw_only=True)
class Change:
    """Things of one category that went away or appeared."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Leak:
    """dom0 is not after the run what it was before."""

    kind: Literal["leak"] = "leak"
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class BringUp:
    """A host did not come up."""

    kind: Literal["bring-up"] = "bring-up"
    stage: str  # a phase of harness.results.records.PHASES
    last_words: tuple[str, ...] = ()  # of dom0's console, before it failed
    domain: str = ""  # that did not come up: dom0, domu1...; "": it was no domain that failed
    step: str = ""  # of dom0's init: sshd, xenstore...; or "kernel"
    late: bool = False  # it did not fail: it had not ended when the time was over
    reason: str = ""  # the one of the last words that says why
    tries: int = 1  # boots that ended so
    elsewhere: str = ""  # another Xen with which the same images came up on this host, and when


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """A test case's own claim was found to be false."""

    kind: Literal["assertion"] = "assertion"
    file: str  # of the test case, its name
    function: str  # of the test case, or one that it calls in that file
    line: int
    expression: str  # the source of what was claimed, as ast.unparse writes it


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """An operation went into Xen and has not come back."""

    kind: Literal["in-flight"] = "in-flight"
    domain: str
    verb: str
    arguments: Arguments
    thread: int | None = None  # of the agent, under load
    milliseconds: int | None = None  # since it went in, where somebody counted


Evidence = (
    Hang
    | Crash
    | Disallowed
    | WrongAnswer
    | WrongState
    | WrongEvents
    | Departure
    | UnforeseenEnd
    | Leak
    | BringUp
    | Assertion
    | InFlight
)
