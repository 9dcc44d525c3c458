# SPDX-License-Identifier: GPL-2.0-or-later
"""One bug in a simulated Xen, with an effect that the history shows.

Some bugs change an answer afterwards; others (harness.history.simulate.faults) make the simulated
Xen do the wrong thing once.  ``inject`` only returns a history when the effect is visible
(harness.history.simulate.visible).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from harness.history.format.history import History
from harness.history.format.record import Op, Via
from harness.history.simulate.faults import FAULTS, with_fault
from harness.history.simulate.run import Recipe, Run
from harness.history.simulate.visible import kernel_peer, owned_throughout, steady, tells
from harness.history.simulate.world import EINVAL, INTERDOMAIN, UNBOUND, VIRQ, Call


def inject(recipe: Recipe, bug: str) -> tuple[History, Call] | None:
    """Return a history with one visible ``bug`` and its culprit; None: it would not show."""
    if bug in ANSWERS:
        return _wrong_answer(recipe, bug)
    return with_fault(recipe, bug)


_NO_VCPU = 200  # that no operation binds to


def _with_result(value: int) -> Callable[[Call], None]:
    def change(call: Call) -> None:
        call.result = value

    return change


def _tell_unbound(call: Call) -> None:
    call.result, call.arg = call.result & ~0xFF | UNBOUND, 0


def _tell_other_vcpu(call: Call) -> None:
    call.result = call.result & ~0xFF00 | _NO_VCPU << 8


def _tell_other_port(call: Call) -> None:
    call.arg += 1


def _tell_other_domain(call: Call) -> None:
    call.result ^= 1 << 16


# Bug: (which answers it can change so that it shows, how).
ANSWERS: dict[str, tuple[Callable[[Run, Call], bool], Callable[[Call], None]]] = {
    "send refused": (
        lambda run, c: (
            c.op is Op.SEND and c.via is Via.RAW and c.result == 0 and owned_throughout(run, c)
        ),
        _with_result(EINVAL),
    ),
    "poll refused": (
        lambda run, c: c.op is Op.POLL and c.result == 0 and owned_throughout(run, c),
        _with_result(EINVAL),
    ),
    "unmask refused": (
        lambda run, c: c.op is Op.UNMASK and c.result == 0 and owned_throughout(run, c),
        _with_result(EINVAL),
    ),
    "status closed": (
        lambda run, c: c.op is Op.STATUS and c.result > 0 and owned_throughout(run, c),
        _with_result(0),
    ),
    "status unbound": (
        lambda run, c: tells(c, INTERDOMAIN) and steady(run, c) and not kernel_peer(c),
        _tell_unbound,
    ),
    "status wrong port": (
        lambda run, c: tells(c, INTERDOMAIN) and steady(run, c),
        _tell_other_port,
    ),
    "status wrong domain": (
        lambda run, c: (tells(c, INTERDOMAIN) or tells(c, UNBOUND)) and steady(run, c),
        _tell_other_domain,
    ),
    "status wrong vcpu": (
        lambda run, c: (
            c.op is Op.STATUS
            and c.result > 0
            and c.lifetime is not None
            and not c.lifetime.device
            and owned_throughout(run, c)
        ),
        _tell_other_vcpu,
    ),
    "send to VIRQ accepted": (
        lambda run, c: (
            c.op is Op.SEND
            and c.via is Via.RAW
            and c.result == EINVAL
            and c.lifetime is not None
            and c.lifetime.kind == VIRQ
            and owned_throughout(run, c)
        ),
        _with_result(0),
    ),
}


def _wrong_answer(recipe: Recipe, bug: str) -> tuple[History, Call] | None:
    run = Run(recipe)
    run.run()
    fits, change = ANSWERS[bug]
    candidates = [c for runner in run.runners() for c in runner.calls if fits(run, c)]
    if not candidates:
        return None
    call = random.Random(recipe.seed).choice(candidates)
    change(call)
    return run.history(), call


BUGS: tuple[str, ...] = (*ANSWERS, *FAULTS)
