# SPDX-License-Identifier: GPL-2.0-or-later
"""``fuzz`` on one host: boots it, hunts, keeps what was found; and replays what was kept."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.fuzz.hangs import Hung, shorter_hang
from harness.fuzz.hunt import SHORTER_SECONDS, Counts, Found, Hunt
from harness.fuzz.kept import FILE, kept
from harness.fuzz.programme_file import ProgrammeFile, read_file, write_file
from harness.fuzz.progress import steps_begun
from harness.fuzz.subject import Subject, subject
from harness.model.lock.flavours import FLAVOURS
from harness.results import records
from harness.run.opened import open_recorder
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.verdict import ConfigError, HarnessError, HypervisorError, LabError, Verdict

_TEST = "programmes"  # the name of the hunt in the journal
_REPLAYS = 3


def run_fuzz(plan: Plan, guest: str | None, corpus: Path | None) -> dict[str, Any]:
    """Hunt for the plan's duration on its host; return the document of ``fuzz --json``.

    ``guest``: the type as which the bare guest runs; None: the first one that the host has.  The
    programmes in the directory ``corpus`` are run first; what is found is kept there, too.
    """
    first = [read_file(path) for path in _corpus(corpus)] if corpus is not None else []
    with open_recorder(plan, _TEST) as recorder:
        hunted = _hunted(plan, guest, recorder, first, random=True)
        places = [recorder.directory.path]
        if corpus is not None:
            places.insert(0, corpus)
        document = _told(plan, recorder, hunted, _kept(plan, recorder, hunted, places))
    return _with_whole_run(document, recorder)


def replay(plan: Plan, path: Path) -> dict[str, Any]:
    """Run the programme in ``path`` again, a few times; return a document as ``run_fuzz`` does."""
    known = read_file(path)
    with open_recorder(plan, _TEST) as recorder:
        hunted = _hunted(plan, known.guest, recorder, [known] * _REPLAYS, random=False)
        document = _told(plan, recorder, hunted, path)
    return _with_whole_run(document, recorder)


def _with_whole_run(document: dict[str, Any], recorder: Recorder) -> dict[str, Any]:
    """Return ``document``, a FAIL if anything else of the run is one: Xen's lock code is judged,
    too, before the hunt."""
    if recorder.verdict is not Verdict.FAIL or document["verdict"] == str(Verdict.FAIL):
        return document
    message = "no programme shows anything, but Xen's machine code is wrong: see the report"
    return {**document, "verdict": str(Verdict.FAIL), "message": message}


def _corpus(place: Path) -> list[Path]:
    """Make the directory ``place`` if it is not there; return its programmes.

    ConfigError if nothing could be kept there: better known before the hunt than after it.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return sorted(place.glob(f"{FILE}*.json"))
    except OSError as error:
        raise ConfigError(
            f"nothing can be kept here: {error.strerror}",
            where=str(place),
            hint="give a directory that can be written to with --corpus",
        ) from error


@dataclass
class _Hunted:
    """What came of a hunt."""

    guest: str  # type of the bare guest
    counts: Counts
    found: Found | None = None
    seconds: float = 0.0  # until it was found, or to the end


def _hunted(
    plan: Plan,
    guest: str | None,
    recorder: Recorder,
    first: Sequence[ProgrammeFile],
    *,
    random: bool,
) -> _Hunted:
    """Boot the plan's host; run the programmes ``first``, and then ``random`` ones, if wanted.

    What is found stays found, also if the machine cannot be switched off any more, or a person does
    not wait for that.
    """
    hunted = _Hunted("", Counts())
    try:
        with subject(plan, guest, recorder) as one:
            hunted = _Hunted(one.type, Counts())
            _run(hunted, one, plan, first, random=random)
    except (HarnessError, OSError, KeyboardInterrupt) as error:
        if hunted.found is None:
            raise
        name = plan.hosts[0].name
        recorder.progress.note(f"{name:12} after it was found: {error or 'interrupted'}")
    return hunted


def _run(
    hunted: _Hunted, one: Subject, plan: Plan, first: Sequence[ProgrammeFile], *, random: bool
) -> None:
    """Hunt on a host that is up; what comes of it is in ``hunted``, as soon as it is known."""
    recorder = one.live.recorder
    flavour = FLAVOURS[one.live.build.design]
    fresh = one.fresh if one.live.saved else None
    guest = one.guest
    dom0 = one.dom0 if guest.dom0 is not None else None
    hunt = Hunt(guest, one.world, one.domid, flavour, fresh, dom0=dom0, replay=not random)
    hunted.counts = hunt.counts
    began = time.monotonic()
    try:
        with recorder.phase(one.live.host.name, "load"):
            batches = (each.batch() for each in first)
            hunted.found = next(filter(None, map(hunt.batch, batches)), None)
            if hunted.found is None and random:
                hunted.found = hunt.run(
                    plan.seed, plan.duration, lambda: _report(recorder, one, hunt.counts)
                )
            hunted.seconds = hunt.found_after or time.monotonic() - began
    except HarnessError as error:
        if hunted.found is not None:
            raise
        hunted.seconds = time.monotonic() - began
        hung = _hung(one, hunt, error)
        hunted.found = hung.found(one.world, one.domid, seen_again=not random)
        if random:
            hunted.found = _shorter(one, hung)


def _report(recorder: Recorder, one: Subject, counts: Counts) -> None:
    name, rate = one.live.host.name, counts.operations / max(counts.seconds, 0.001)
    recorder.progress.update(
        f"{counts.programmes:,} programmes, {counts.operations:,} operations, {rate:,.0f}/s"
    )
    recorder.add(records.Sample(name, round(counts.seconds, 2), round(rate, 1)))


def _hung(one: Subject, hunt: Hunt, error: HarnessError) -> Hung:
    """Return in which programme Xen hung, and how; raise what is no fault of Xen's."""
    cause = one.live.cause(error)
    if not isinstance(cause, HypervisorError) or cause.evidence is None:
        raise cause from error
    note, name = one.live.recorder.progress.note, one.live.host.name
    note(f"{name:12} FAIL      {cause}")
    batch = hunt.running
    both = batch.both if batch.second else (batch.steps, ())
    at = (len(both[0]) - 1, len(both[1]) - 1)
    try:
        image = one.live.machine.dump()
        try:
            begun = steps_begun(image, hunt.guest.number)
        finally:
            image.unlink(missing_ok=True)
        if begun is not None:
            own = begun if batch.second else (begun[batch.vcpu], 0)
            at = min(at[0], own[0]), min(at[1], own[1])
    except (LabError, OSError, KeyboardInterrupt) as missed:
        note(f"{name:12} in which step is not known: {missed or 'interrupted'}")
    steps, second = both[0][: at[0] + 1], both[1][: at[1] + 1]
    return Hung(replace(batch, steps=steps, second=second, times=1), cause.evidence)


def _shorter(one: Subject, hung: Hung) -> Found:
    """Return ``hung`` with fewer steps, if the machine can be restored; else as it is."""
    recorder, name = one.live.recorder, one.live.host.name
    ends = time.monotonic() + SHORTER_SECONDS
    with recorder.phase(name, "check"):
        return shorter_hang(
            hung,
            one,
            lambda: time.monotonic() > ends,
            lambda text: recorder.progress.note(f"{name:12} {text}"),
        )


def _kept(plan: Plan, recorder: Recorder, hunted: _Hunted, places: Sequence[Path]) -> Path | None:
    """Write what was found into each of ``places``; return the first path, None if nothing was
    found, or no place could be written to: what is found is told all the same."""
    found = hunted.found
    if found is None:
        return None
    wrong, host = found.wrong, plan.hosts[0].name
    name, file = kept(plan, host, hunted.guest, found.batch, wrong.lines[0], wrong.calls)
    written = []
    for place in places:
        try:
            write_file(place / name, file)
            written.append(place / name)
        except OSError as error:
            recorder.progress.note(f"{plan.hosts[0].name:12} {place / name}: {error.strerror}")
    return written[0] if written else None


def _told(
    plan: Plan, recorder: Recorder, hunted: _Hunted, programme: Path | None
) -> dict[str, Any]:
    """Write the outcome into the journal; return the document."""
    counts, found, name = hunted.counts, hunted.found, plan.hosts[0].name
    note = recorder.progress.note
    verdict = Verdict.PASS if found is None else Verdict.FAIL
    if not counts.operations and found is None:
        verdict = Verdict.MISS
    message, calls = ("", "") if found is None else found.wrong.lines
    steps = 0 if found is None else len(found.batch.steps) + len(found.batch.second)
    copy = None if programme is None else recorder.directory.path / programme.name
    recorder.add(
        records.Test(
            name,
            _TEST,
            verdict,
            round(hunted.seconds, 3),
            message,
            "" if found is None else "\n".join(found.wrong.calls),
            (copy.name,) if copy is not None and copy.is_file() else (),
            evidence=None if found is None else found.wrong.evidence,
        )
    )
    rate = counts.operations / max(counts.seconds or hunted.seconds, 0.001)
    note(
        f"{name:12} {hunted.guest}: {counts.programmes:,} programmes, {counts.operations:,} "
        f"operations judged, {rate:,.0f}/s, {counts.concurrent:,} of them concurrent "
        f"({counts.two_domains:,} of two domains), {counts.undecided:,} undecided"
    )
    document: dict[str, Any] = {
        "verdict": str(verdict),
        "host": name,
        "guest": hunted.guest,
        "flavour": plan.hypervisor.flavour.name,
        "xen": plan.hypervisor.source.version,
        "seed": plan.seed,
        "programmes": counts.programmes,
        "operations": counts.operations,
        "concurrent": counts.concurrent,
        "two_domains": counts.two_domains,
        "undecided": counts.undecided,
        "operations_per_second": round(rate, 1),
        "seconds": round(hunted.seconds, 3),
        "message": message,
        "calls": [] if found is None else list(found.wrong.calls),
        "told": calls,
        "steps": None if found is None else steps,
        "seen_again": None if found is None else found.seen_again,
        "programme": None if programme is None else str(programme),
        "report": str(recorder.directory.report),
    }
    if found is not None:
        note(f"{name:12} in {steps} steps: {calls}")
    return document
