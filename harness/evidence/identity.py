# SPDX-License-Identifier: GPL-2.0-or-later
"""Which failure is it?  Evidence that differs only in ports, times and CPUs is of the same one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.evidence.kinds import (
    Assertion,
    BringUp,
    Crash,
    Departure,
    Disallowed,
    Evidence,
    Hang,
    InFlight,
    Leak,
    Spin,
    UnforeseenEnd,
    WrongAnswer,
    WrongEvents,
    WrongState,
)

_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")  # in a line of Xen's console


@dataclass(frozen=True)
class Identity:
    """What is the same about a failure each time it shows."""

    kind: str  # the evidence's
    site: str  # Xen's function or file, the model's property, the test case
    shape: str = ""  # what about it, without what varies


def identity(evidence: Evidence) -> Identity:
    """Return the identity of ``evidence``.

    Of a crash, the line of the source is no part of it: that moves with every commit above it.
    """
    kind = evidence.kind
    match evidence:
        case Hang():
            spin = blamed(evidence)
            site = f"xen-shim: {spin.function}" if evidence.in_shim else spin.function
            return Identity(kind, site, spin.fault or ("circle" if spin.circle else ""))
        case Crash(file=""):
            return Identity(kind, evidence.what, _NUMBER.sub("N", evidence.text).strip())
        case Crash():
            return Identity(kind, evidence.file, evidence.expression or evidence.what)
        case Disallowed():
            culprit = evidence.culprit
            return Identity(kind, evidence.property, culprit.verb if culprit else "")
        case WrongAnswer(operation=operation):
            result = operation.result
            answer = str(result) if result is not None and result < 0 else "success"
            return Identity(kind, operation.verb, answer)
        case WrongState():
            names = (difference.name for difference in evidence.differences)
            return Identity(kind, "", ", ".join(names))
        case WrongEvents():
            lost = set(evidence.expected) - set(evidence.seen)
            return Identity(kind, "", "lost" if lost else "invented")
        case Departure():
            return _of_departure(evidence)
        case UnforeseenEnd():
            results = ", ".join(map(str, evidence.results))
            return Identity(kind, evidence.scenario, f"{results}; {evidence.state}")
        case Leak():
            return Identity(kind, ", ".join(change.what for change in evidence.changes))
        case BringUp(domain=""):
            return Identity(kind, evidence.stage)
        case BringUp():
            why = "late" if evidence.late else _NUMBER.sub("N", evidence.reason).strip()
            return Identity(kind, evidence.step or evidence.stage, why)
        case Assertion():
            return Identity(kind, f"{evidence.file}::{evidence.function}", evidence.expression)
        case InFlight():
            return Identity(kind, evidence.verb)


def blamed(hang: Hang) -> Spin:
    """Return the CPU to blame for ``hang``: the cause before those that only wait, and one whose
    lock word proves a fault before others."""
    return min(hang.cpus, key=lambda spin: (not spin.cause, spin.fault is None))


def _of_departure(evidence: Departure) -> Identity:
    stand = evidence.stand
    shape = [f"not {stand.step}"] if stand else []
    shape += [difference.name for difference in evidence.differences]
    shape += [f"{operation.verb} avoids the lock" for operation in evidence.avoided]
    shape += [f"{operation.verb} is lost" for operation in evidence.lost]
    return Identity(evidence.kind, stand.function if stand else "", ", ".join(shape))
