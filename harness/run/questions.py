# SPDX-License-Identifier: GPL-2.0-or-later
"""When a host does not come up: ask Xen, through dom0, before the lab is blamed.

A wrong answer to a hypercall breaks a daemon in dom0, which then says "Invalid argument" at best.
Only after a failure, or when a step is late: a good Xen's bring-up takes no longer by this, and a
wrong answer that breaks nothing is for the tests to find.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.agent.client import AgentClient
from harness.domains.dom0 import Dom0
from harness.evidence import words
from harness.machine.line import Line
from harness.run import agents, dom0_steps
from harness.verdict import HarnessError, HypervisorError, LabError

if TYPE_CHECKING:
    from harness.run.session import Session

# Has dom0's agent make hypercalls; returns how many were judged, and raises HypervisorError for a
# wrong answer.
Questions = Callable[["Session"], int]

_CPUS_SECONDS = 10.0
_LOGS = "/var/log/libvirt/libvirtd.log /var/log/libvirt/libxl/*.log /var/log/xen/*.log"
_DAEMONS = "xenstored oxenstored xen-init-dom0 xenconsoled libvirtd virsh qemu-system-i386"
# What brings dom0 up is stopped meanwhile, so that no port comes or goes but the agent's.  The
# pid file is written by guests/dom0/init.
_EACH = f"for p in $(cat /run/harness/toolstack.pid; pidof {_DAEMONS}); do"
_STOP = f"""
{_EACH} kill -STOP $p; done 2>/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
    runs=; {_EACH} case $(cut -d' ' -f3 /proc/$p/stat) in T | Z | '') ;; *) runs=1 ;; esac; done
    [ "$runs" ] || break
    usleep 100000
done 2>/dev/null
"""
_CONTINUE = f"{_EACH} kill -CONT $p; done 2>/dev/null"
_LOOK = f"""
for name in {_DAEMONS}; do for p in $(pidof $name); do
    echo "$name runs, and waits in $(cat /proc/$p/wchan)"
done; done
for log in {_LOGS}; do [ ! -s $log ] || {{ echo "$log:"; tail -n 4 $log; }}; done 2>/dev/null
"""


def ask(live: Session, questions: Questions, symptom: HarnessError) -> None:
    """Ask ``questions``; HypervisorError for a wrong answer, or for a hang of Xen.

    If there is none, ``symptom``, the error of the bring-up, is told that in its story, with what
    dom0's daemons do and have logged.
    """
    if not live.dom0.alive():
        told = "Xen was not asked: dom0 does not answer by SSH"
    else:
        told = f"{_asked(live, questions, symptom)}\n{_daemons(live.dom0)}"
    symptom.story = "\n".join(filter(None, (symptom.story, told.strip())))


def _asked(live: Session, questions: Questions, symptom: HarnessError) -> str:
    """Ask ``questions``; return in words what came of it, if nothing wrong with Xen did."""
    try:
        _await_cpus(live)
        with _stopped(live.dom0), _agent(live):
            count = questions(live)
        return f"dom0 has asked Xen: {count} hypercalls, and every answer was right"
    except HarnessError as error:
        cause = live.cause(error)
        if isinstance(cause, HypervisorError):
            cause.hint = words.after(symptom)
            cause.after(symptom.story)
            raise cause from error
        return f"Xen could not be asked: {cause}"


def _await_cpus(live: Session) -> None:
    """After a step that failed, wait until dom0 has started its other CPUs: that opens ports."""
    if dom0_steps.starts_cpus(live.console):
        with contextlib.suppress(LabError):
            live.console.expect("harness: dom0 cpus (up|failed)", _CPUS_SECONDS)


@contextmanager
def _stopped(dom0: Dom0) -> Iterator[None]:
    dom0.run(_STOP)
    try:
        yield
    finally:
        with contextlib.suppress(LabError):  # of the two errors, the first says more
            dom0.run(_CONTINUE)


@contextmanager
def _agent(live: Session) -> Iterator[None]:
    """Run an agent in dom0, by SSH: the machine's own lines are for the agents of the tests."""
    line = Line(
        live.dom0.channel([f"{agents.PAYLOAD}/agent", "serve"]), "agent of dom0", live.machine.clock
    )
    live.listen(line)
    client = AgentClient(line, "dom0", live.machine.clock, domid=0)
    live.agents["dom0"] = client
    try:
        client.hello()
        yield
    finally:
        live.agents.pop("dom0", None)
        line.hang_up()


def _daemons(dom0: Dom0) -> str:
    """Return what dom0's daemons do, and the end of their logs."""
    try:
        return dom0.run(_LOOK).stdout.strip()
    except LabError:
        return ""
