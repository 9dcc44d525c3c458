# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a programme that shows something: a file that ``fuzz --replay`` runs again."""

from __future__ import annotations

from collections.abc import Sequence

from harness.fuzz.batches import Batch
from harness.fuzz.programme import digest
from harness.fuzz.programme_file import ProgrammeFile, in_file
from harness.run.plan import Plan

FILE = "programme-"  # a file's name begins so


def kept(
    plan: Plan, host: str, guest: str, batch: Batch, message: str, calls: Sequence[str] = ()
) -> tuple[str, ProgrammeFile]:
    """Return the name of the file, and what is in it.

    The same programme has the same name.  ``guest``: the type as which the bare guest ran;
    ``message``: what Xen did; ``calls``: the steps with their answers.
    """
    xen = plan.hypervisor
    file = ProgrammeFile(
        host=host,
        guest=guest,
        flavour=xen.flavour.name,
        xen=xen.source.version,
        seed=plan.seed,
        message=message,
        calls=tuple(calls),
        vcpu=batch.vcpu,
        steps=in_file(batch.steps),
        second=() if batch.in_dom0 else in_file(batch.second),
        dom0=in_file(batch.second) if batch.in_dom0 else (),
        times=batch.times,
    )
    return f"{FILE}{digest((*batch.steps, *batch.second))}.json", file
