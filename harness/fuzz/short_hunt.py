# SPDX-License-Identifier: GPL-2.0-or-later
"""A hunt of some seconds in a bare guest that is up: as a test of a suite, not as ``fuzz``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.conformance.bare import Bare
from harness.conformance.reference_model import Disagreement
from harness.fuzz.batches import Batch
from harness.fuzz.guest import ProgrammeGuest
from harness.fuzz.hunt import Counts, Hunt
from harness.fuzz.kept import kept
from harness.fuzz.programme_file import write_file
from harness.model.evtchn.domain import World
from harness.model.evtchn.outcome import existing_domain
from harness.model.lock.flavours import FLAVOURS
from harness.run.session import Session
from harness.verdict import HarnessError

# To make what is found shorter, in a guest that cannot be brought back to its start.  ``fuzz`` has
# more time.
_SHORTER_SECONDS = 10.0


def short_hunt(
    live: Session, bare: Bare, seconds: float, artifact: Callable[[str], None]
) -> Counts:
    """Have ``bare``, which has just been reset, make random programmes of one vCPU and of both at
    once for ``seconds``; return how many.  It is reset again at the end.

    The plan's seed says which.  Raises Disagreement if Xen does what the model does not allow;
    ``artifact`` is told the name of the file with the programme then.  Raises what the connection
    raises if the guest does not answer; the programme is kept then, too.
    """
    world = World((bare.now,), bare.domains.model.world.rules)
    flavour = FLAVOURS[live.build.design]
    hunt = Hunt(
        ProgrammeGuest(bare.agent.connection),
        world,
        bare.domid,
        flavour,
        replay=True,
        shorter_seconds=_SHORTER_SECONDS,
    )
    try:
        found = hunt.run(live.plan.seed, seconds, lambda: _report(live, hunt.counts))
    except HarnessError as error:  # Xen hangs, or the guest does: in this programme
        _write(live, bare, hunt.running, str(error), (), artifact)
        raise
    if found is not None:
        wrong = found.wrong
        hint = _write(live, bare, found.batch, wrong.lines[0], wrong.calls, artifact)
        calls = "\n".join(wrong.calls)
        raise Disagreement(wrong.evidence, where=bare.name, story=calls, hint=hint)
    known = existing_domain(hunt.world, bare.domid)
    bare.domains.model.world = bare.domains.model.world.with_domain(known)
    bare.begin()
    return hunt.counts


def _report(live: Session, counts: Counts) -> None:
    live.recorder.progress.update(
        f"{counts.programmes:,} programmes, {counts.operations:,} operations"
    )


def _write(
    live: Session,
    bare: Bare,
    batch: Batch,
    message: str,
    calls: Sequence[str],
    artifact: Callable[[str], None],
) -> str:
    """Write the programme into the run's directory; return what a person does with it."""
    if not batch.steps and not batch.second:
        return ""
    name, file = kept(live.plan, live.host.name, bare.type, batch, message, calls)
    path = live.recorder.directory.path / name
    try:
        write_file(path, file)
    except OSError as error:
        return f"the programme could not be written to {path}: {error.strerror}"
    artifact(name)
    return f"run it again: evtchn-harness fuzz --replay {path}"
