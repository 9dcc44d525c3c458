# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps in which dom0 comes up, as guests/dom0/init tells them on dom0's console.

A step that fails is told at once, by the line of the console that says why.  A step that is late
is told once, and then waited for until its time is over: a busy machine is slow, not dead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.domains.dom0 import Dom0, NoAnswer
from harness.domains.keys import RunKeys
from harness.evidence import BringUp
from harness.machine import Machine
from harness.machine.console import Console, LineMissing
from harness.verdict import LabError

LAST_WORDS = 12  # lines of dom0's console
_TOOLSTACK_SECONDS = 180.0
# A quiet machine under TCG takes 6 to 15 s until sshd is up, and 4 to 10 s more for the toolstack.
_LATE_SECONDS = 25.0
_LATE_SSHD_SECONDS = 60.0
_ORDER = ("kernel", "user-space", "sshd", "xenstore", "libvirtd")
_WHY = re.compile(r"\b(error|fail\w*|cannot|unable|denied|refused|no such|panic|bug)\b", re.I)


@dataclass(frozen=True)
class Step:
    """A step that is waited for, and the steps without which it cannot come."""

    name: str
    needs: tuple[str, ...]
    fatal: str = ""  # how the line begins with which a program that it needs gives up
    late: float = _LATE_SECONDS  # when it is told that it is late

    @property
    def pattern(self) -> str:
        """What is looked for on the console."""
        failed = "|".join((*self.needs, self.name))
        ended = f"|^{self.fatal}" if self.fatal else ""
        return rf"harness: dom0 ({self.name} up|({failed}) failed){ended}"


_SSHD = Step("sshd", ("stage1", "xenfs", "network"), late=_LATE_SSHD_SECONDS)
_LIBVIRTD = Step("libvirtd", ("xenfs", "xenstore", "console"), fatal="FATAL: ")  # xenstored's
CPUS = Step("cpus", ())  # the last step where dom0 has no toolstack

OnLate = Callable[[LabError], None]


def login(machine: Machine, keys: RunKeys, on_late: OnLate) -> Dom0:
    """Wait until dom0's sshd is up, and log in; LabError with BringUp as its evidence if a step
    fails or the machine's time for booting is over."""
    limit = machine.boot_seconds
    wait(machine, _SSHD, limit, on_late)
    try:
        return Dom0.connect(
            machine.ssh, keys, timeout=limit, check=machine.check, clock=machine.clock
        )
    except NoAnswer as error:
        raise LabError(_seen(machine.console, "sshd", late=True, reason=error.what)) from error


def toolstack_up(machine: Machine, on_late: OnLate) -> None:
    """Wait until dom0's libvirtd is up; errors as of ``login``."""
    wait(machine, _LIBVIRTD, _TOOLSTACK_SECONDS, on_late)


def cpus_up(machine: Machine, on_late: OnLate) -> None:
    """Wait until dom0 uses all its CPUs, where it has no toolstack; errors as of ``login``."""
    wait(machine, CPUS, _TOOLSTACK_SECONDS, on_late)


def wait(machine: Machine, step: Step, seconds: float, on_late: OnLate) -> None:
    """Wait until ``step`` is up, for at most ``seconds``; ``on_late`` is called once if it is late,
    with the error that would be raised at the end."""
    console = machine.console
    try:
        line = console.expect(step.pattern, min(step.late, seconds), check=machine.check)
    except LineMissing:
        on_late(LabError(_late(console, step)))
        try:
            line = console.expect(step.pattern, max(0.0, seconds - step.late), check=machine.check)
        except LineMissing as error:
            raise LabError(_late(console, step)) from error
    if step.fatal and line.text.startswith(step.fatal):
        raise LabError(_seen(console, _under_way(console, step), reason=line.text))
    failed = re.search(r"harness: dom0 (\S+) failed[^:]*: *(.*)", line.text)
    if failed:
        raise LabError(_seen(console, failed[1], reason=why(console) or failed[2]))


def starts_cpus(console: Console) -> bool:
    """Say whether dom0's init has given up the toolstack: it then starts the other CPUs."""
    failed = re.compile(rf"harness: dom0 ({'|'.join((*_LIBVIRTD.needs, 'libvirtd'))}) failed")
    return any(failed.search(text) for text in last_words(console))


def why(console: Console) -> str:
    """Return the line at the end of dom0's console that says best why a step failed; "" if none."""
    lines = [each for each in last_words(console) if not each.startswith("harness: ")]
    fatal = [each for each in lines if "FATAL" in each]
    telling = [each for each in lines if _WHY.search(each)]
    return ["", *telling, *fatal][-1]


def last_words(console: Console, domain: str = "dom0") -> tuple[str, ...]:
    """Return the last lines of a domain's console."""
    return tuple(line.text for line in console.tail(domain, LAST_WORDS))


def _late(console: Console, step: Step) -> BringUp:
    said = last_words(console)
    return _seen(console, _under_way(console, step), late=True, reason=said[-1] if said else "")


def _under_way(console: Console, step: Step) -> str:
    """Return the first step of which the console does not say that it is up."""
    if step is CPUS:
        return step.name
    told = [re.search(r"harness: dom0 (\S+) up", line.text) for line in console.tail("dom0", 2000)]
    up = {found[1] for found in told if found}
    return next((name for name in _ORDER if name not in up), step.name)


def _seen(console: Console, step: str, *, late: bool = False, reason: str) -> BringUp:
    return BringUp(
        stage="boot",
        domain="dom0",
        step=step,
        late=late,
        reason=reason.strip(),
        last_words=last_words(console),
    )
