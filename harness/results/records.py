# SPDX-License-Identifier: GPL-2.0-or-later
"""The records of the journal: one frozen dataclass per ``kind`` of line in results.jsonl.

docs/results.md documents the kinds and their fields; a test compares both.
A new field needs a default, so that older journals can still be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, TypeAdapter

from harness.evidence import Evidence, codec
from harness.verdict import Verdict

# The parts of a host's run, in order; ``Phase.name`` is one of them.
PHASES = ("build", "images", "boot", "domains", "agents", "load", "check", "teardown")


@dataclass(frozen=True)
class RunStart:
    """First record of a run."""

    kind: ClassVar[str] = "run-start"
    seed: int
    argv: tuple[str, ...]  # the command line, program included
    version: str  # the harness's own
    hosts: tuple[str, ...]  # every host that this run means to use, in order


@dataclass(frozen=True)
class Patch:
    """A patch of the user's that was applied to the source."""

    file: str  # as given with --series
    subject: str  # of its mail
    tree: str  # git's id of the tree after it


@dataclass(frozen=True)
class Model:
    """The lock by whose rules a Xen is judged."""

    name: str
    how: str  # "recognised" or "given"
    source: str  # one line: in which text of the tree, or by which option


@dataclass(frozen=True)
class FoundRule:
    """A rule of the model that changed in Xen's history, and whether it holds in this Xen."""

    name: str
    holds: bool
    origin: str  # what decided it: commit, version or text
    why: str  # one line


@dataclass(frozen=True)
class HostStart:
    """What will run on ``host``; written as soon as the hypervisor under test is known."""

    kind: ClassVar[str] = "host-start"
    host: str
    arch: str  # harness.arch.Arch
    accel: str  # "kvm" or "tcg", or "" for a physical server
    accel_reason: str  # one line: why that accelerator
    flavour: str
    build_id: str  # GNU build id of the Xen that was booted, hex
    xen_version: str  # as Xen itself says it, e.g. "4.17.5"
    source: str  # where the tree came from, with its version or commit
    toolstack: str = ""  # dom0's: package, equal-to, built or none
    toolstack_reason: str = ""  # one line: why that one
    series: tuple[Patch, ...] = ()  # applied to the source, in this order
    model: Model | None = None  # None: an older harness did not say
    rules: tuple[FoundRule, ...] = ()  # of the model: which hold in this Xen
    restored: str = ""  # it goes on from a machine that was kept then (ISO 8601); "": it booted


@dataclass(frozen=True)
class Phase:
    """``host`` has ended phase ``name`` of PHASES, which took ``seconds``."""

    kind: ClassVar[str] = "phase"
    host: str
    name: str
    seconds: float


@dataclass(frozen=True)
class Test:
    """The outcome of one test."""

    __test__: ClassVar[bool] = False  # pytest: this is a value, not a test class
    kind: ClassVar[str] = "test"
    host: str
    name: str
    verdict: Verdict
    seconds: float
    message: str = ""  # one line: the reason, for anything but PASS and DONE
    story: str = ""  # lines for people: what happened, in order
    artifacts: tuple[str, ...] = ()  # files, relative to the run directory
    evidence: Annotated[Evidence | None, BeforeValidator(codec.from_json)] = None  # what was seen


@dataclass(frozen=True)
class Sample:
    """Throughput of ``host``, for the plot over time."""

    kind: ClassVar[str] = "sample"
    host: str
    t: float  # seconds since the load began
    operations_per_second: float


@dataclass(frozen=True)
class Latency:
    """Latency of one operation as one domain saw it, in microseconds."""

    kind: ClassVar[str] = "latency"
    host: str
    op: str
    domain: str
    count: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True)
class Domain:
    """A domain that took part, and how many operations its agent recorded."""

    kind: ClassVar[str] = "domain"
    host: str
    name: str  # dom0, domu1, ...
    type: str  # dom0, pv, pvh, hvm, arm
    operations: int


@dataclass(frozen=True)
class ConsoleEvent:
    """A line on a console of ``host`` that reports a crash, or a symptom that killed nobody."""

    kind: ClassVar[str] = "console-event"
    host: str
    stream: str  # xen, dom0, domu1...: console/<host>/<stream>.log
    t: datetime  # the line's own time stamp, UTC
    event: str  # panic, assertion, warning...: harness.hypervisor.console
    text: str
    dies: bool = True  # False: a symptom (WARN, a soft lockup...)


@dataclass(frozen=True)
class Broken:
    """What broke under load; written as soon as it is known, before the records are collected."""

    kind: ClassVar[str] = "broken"
    host: str
    verdict: Verdict
    message: str  # one line: the cause


@dataclass(frozen=True)
class Leak:
    """Something in dom0 that was not the same after the tests as before."""

    kind: ClassVar[str] = "leak"
    host: str
    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Cells:
    """Rows of the specification that one kind of guest exercised in a test that passed.

    If ``host`` cannot have such a guest, there are no rows, and ``why_not`` is the reason.
    """

    kind: ClassVar[str] = "cells"
    host: str
    test: str
    guest: str  # x86_64 pv, arm64 dom0...: harness.conformance.cells
    abi: str  # 2L or FIFO
    release: str  # of the Xen that ran: 4.17
    rows: tuple[str, ...]
    differs: tuple[str, ...] = ()  # "4.20: row": the model of 4.20 does not allow it
    why_not: str = ""
    # Names of the rules that hold, where the tree has others than its release; None: the release's.
    rules: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Witness:
    """Where and how a lock in machine code is not as the model has it."""

    what: str  # one line
    trace: tuple[str, ...]  # who does what, in the order of events


@dataclass(frozen=True)
class LockCode:
    """The lock functions in the machine code of the Xen of ``host``, held against the model."""

    kind: ClassVar[str] = "lock-code"
    host: str
    verdict: str  # "as modelled", "refuted" or "not covered"
    model: str  # the lock that it was held against
    memory: str = ""  # the memory model: tso or arm
    copies: int = 0  # of lock functions, inlined ones included
    coverage: float = 0.0  # the share, 0 to 1, of their instructions that is understood
    seconds: float = 0.0
    message: str = ""  # one line: why not "as modelled"
    witnesses: tuple[Witness, ...] = ()


@dataclass(frozen=True)
class HostEnd:
    """``host`` has ended; ``message`` says in one line why it is not a PASS.

    ``starved``: the share of the time, 0 to 1, for which an emulated machine waited for a CPU.
    """

    kind: ClassVar[str] = "host-end"
    host: str
    verdict: Verdict
    operations: int
    message: str = ""
    starved: float = 0.0


@dataclass(frozen=True)
class RunEnd:
    """Last record of a run that ended by itself."""

    kind: ClassVar[str] = "run-end"
    verdict: Verdict
    seconds: float
    message: str = ""


Record = (
    RunStart
    | HostStart
    | Phase
    | Test
    | Sample
    | Latency
    | Domain
    | ConsoleEvent
    | Broken
    | Leak
    | Cells
    | LockCode
    | HostEnd
    | RunEnd
)

KINDS: dict[str, type[Record]] = {
    cls.kind: cls
    for cls in (
        RunStart,
        HostStart,
        Phase,
        Test,
        Sample,
        Latency,
        Domain,
        ConsoleEvent,
        Broken,
        Leak,
        Cells,
        LockCode,
        HostEnd,
        RunEnd,
    )
}


def to_json(record: Record) -> dict[str, Any]:
    """Return ``record`` as a JSON object, ``kind`` first."""
    return {"kind": record.kind, **_adapter(record.kind).dump_python(record, mode="json")}


def from_json(document: dict[str, Any]) -> Record:
    """Return the record that ``document`` holds; fields not known here are ignored.

    Raises ValueError for an unknown kind, and for a missing or wrong field.
    """
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    record: Record = _adapter(kind).validate_python(document)
    return record


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[kind])
