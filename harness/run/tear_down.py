# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a session: record what ran, destroy the domUs, and check for leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config.physical import Host
from harness.machine.console import Console
from harness.results import records
from harness.run import leak_check
from harness.run.recorder import Recorder
from harness.verdict import HarnessError, HypervisorError, LabError

if TYPE_CHECKING:
    from harness.run.session import Session


def record_domains(live: Session) -> None:
    """Record each domain that took part, and how many operations it made."""
    kinds = {"dom0": "dom0"} | {domu.name: domu.type for domu in live.domus}
    for name, kind in kinds.items():
        live.recorder.add(records.Domain(live.host.name, name, kind, live.operations.get(name, 0)))


def healthy(live: Session) -> bool:
    """Say whether the host still works."""
    try:
        live.check()
    except (LabError, HypervisorError):
        return False
    return live.dom0.alive()


def destroy_domus(live: Session) -> bool:
    """Destroy all domUs; return whether that succeeded.

    Xen then closes their channels, which hangs if the lock of one was never released.
    """
    try:
        for domu in (*live.domus, *live.guests):
            live.toolstack.expect_end(domu.name)
            domu.destroy()
    except LabError as error:
        cause = live.cause(error)
        seen = cause if isinstance(cause, HarnessError) else error
        live.recorder.add(
            records.Test(
                live.host.name,
                "teardown",
                seen.verdict,
                0.0,
                str(cause),
                evidence=seen.evidence,
            )
        )
        return False
    return True


def compare(live: Session, before: leak_check.State) -> None:
    """Run the leak check, and record its result as a test of its own."""
    name = live.host.name
    leaks = leak_check.settle(
        before, lambda: leak_check.observe(live.dom0, live.tools), live.machine.clock
    )
    for leak in leaks:
        live.recorder.add(records.Leak(name, leak.what, leak.before, leak.after))
    live.recorder.add(leak_check.outcome(name, leaks))


def note_console(recorder: Recorder, host: Host, console: Console) -> None:
    """Record the lines of the consoles that report a crash or a symptom, in their order; say what
    was left out."""
    for note in console.notes:
        recorder.progress.note(f"{host.name:12} {note}")
    seen = [(one, True) for one in console.events] + [(one, False) for one in console.symptoms]
    for one, dies in sorted(seen, key=lambda pair: pair[0].line.time):
        recorder.add(
            records.ConsoleEvent(
                host.name, one.line.stream, one.line.time, one.event.kind, one.line.text, dies
            )
        )
