# SPDX-License-Identifier: GPL-2.0-or-later
"""Put load on a booted host, and check the history that was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.agent import recover
from harness.agent.load import LoadPlan, LoadProgress, run_load
from harness.evidence import Disallowed
from harness.history.checker import CheckResult, check
from harness.history.format import parquet
from harness.history.format.history import History
from harness.history.format.record import Op
from harness.results import records
from harness.results.directory import unused
from harness.run.session import Session
from harness.verdict import HarnessError, HypervisorError, LabError, Verdict

_SAMPLE_SECONDS = 0.5
# Records per thread, of 32 bytes each.  A thread under TCG makes 2,000 operations a second.
_OPERATIONS_PER_SECOND = 8000
_ROOM_AT_LEAST, _ROOM_AT_MOST = 1 << 18, 1 << 20


class DisallowedHistory(HypervisorError):
    """The model does not allow the recorded history; ``story`` says why."""


class Load:
    """Makes the agents of one session put load on Xen, and checks their history."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.artifacts: list[str] = []  # files made, relative to the run directory
        self._pictures = session.recorder.directory.history(session.host.name)

    def run(self, name: str = "load", plan: LoadPlan | None = None) -> History:
        """Run ``plan`` (default: the run's seed and duration) and keep the history as ``name``.

        Raises LabError if a part of the machine fails, HypervisorError if Xen fails; what was
        recorded until then is kept in both cases.
        """
        session = self._session
        chosen = plan or _plan(session.plan.seed, session.plan.duration)
        with session.recorder.phase(session.host.name, "load"):
            history = run_load(
                session.agents,
                chosen,
                flavour=session.build.design,
                release=session.build.source.release,
                rules=frozenset(session.rules.rules.held),
                arch=session.host.arch,
                host=session.host.name,
                progress=_Sampler(session),
                watch=session.check,
                broke=self._tell,
                salvage=lambda part: self._salvage(part, name, chosen),
            )
            self._keep(history, name)
        return history

    def judge(self, history: History) -> CheckResult:
        """Check ``history`` against the model; raise DisallowedHistory at the first violation.

        The witness of each violation is drawn into a file, which becomes an artifact.
        """
        session = self._session
        with session.recorder.phase(session.host.name, "check"):
            result = self._check(history)
            for latency in latencies(history, session.host.name):
                session.recorder.add(latency)
        session.recorder.progress.note(
            f"{session.host.name:12} {result.operations:,} operations, "
            f"{result.undecided:,} undecided, {result.found} disallowed"
        )
        if result.verdict is Verdict.FAIL:
            first = result.violations[0]
            seen = first.evidence or Disallowed(property=first.property)
            raise DisallowedHistory(replace(seen, found=result.found), story=first.story)
        return result

    def _check(self, history: History) -> CheckResult:
        """Check ``history``.  If the witnesses cannot be written (full disk), check it without
        them: the verdict on Xen must not be lost."""
        directory = self._session.recorder.directory
        try:
            result = check(history, html=self._pictures)
        except LabError as error:
            self._session.recorder.progress.note(str(error))
            return check(history)
        self.artifacts += [
            str(Path(violation.html).relative_to(directory.path))
            for violation in result.violations
            if violation.html
        ]
        return result

    def _tell(self, error: BaseException) -> None:
        """Report at once what broke: collecting the records takes a while."""
        if not isinstance(error, HarnessError):
            return
        session = self._session
        cause = session.cause(error)
        verdict = cause.verdict if isinstance(cause, HarnessError) else error.verdict
        session.recorder.add(records.Broken(session.host.name, verdict, str(cause)))
        session.recorder.progress.note(
            f"{session.host.name:12} {verdict} {cause}; collecting what was recorded"
        )

    def _salvage(self, part: History, name: str, plan: LoadPlan) -> None:
        """Keep what was recorded until something broke; errors here must not hide what broke.

        The records of agents that no longer answer are read from the machine's memory.
        """
        note = self._session.recorder.progress.note
        try:
            part = self._recover(part, plan)
        except HarnessError as error:
            note(f"{name}: nothing found in the machine's memory: {error}")
        try:
            self._keep(part, f"{name}-partial")
        except HarnessError as error:
            note(f"{name}: partial history lost: {error}")

    def _recover(self, part: History, plan: LoadPlan) -> History:
        session = self._session
        image = session.machine.dump()
        try:
            runs = {agent.domid: plan.run_of(agent.domid) for agent in session.agents.values()}
            whole = recover.complete(part, recover.recover(image, runs))
        finally:
            image.unlink(missing_ok=True)
        for flight in recover.in_flight(whole):
            session.recorder.progress.note(f"{session.host.name:12} in flight: {flight}")
        return whole

    def _keep(self, history: History, name: str) -> None:
        session = self._session
        folder = session.recorder.directory.history(session.host.name)
        folder.mkdir(parents=True, exist_ok=True)
        path = unused(folder / f"{name}.parquet")  # a repeated test writes a new file each time
        parquet.write(history, path)
        if path.stem != name:
            self._pictures = folder / path.stem
        self.artifacts.append(str(path.relative_to(session.recorder.directory.path)))
        for log in history.threads:
            count = session.operations.get(log.domain, 0)
            session.operations[log.domain] = count + len(log.records)


def _plan(seed: int, seconds: float) -> LoadPlan:
    """Return the run's load, with enough memory for all that it can record."""
    room = min(max(_ROOM_AT_LEAST, int(seconds * _OPERATIONS_PER_SECOND)), _ROOM_AT_MOST)
    return LoadPlan(seed=seed, duration_s=seconds, records=room)


class _Sampler:
    """Writes the load's progress into the journal (for the plot) and on the terminal."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last = -_SAMPLE_SECONDS

    def __call__(self, progress: LoadProgress) -> None:
        if progress.elapsed_s - self._last < _SAMPLE_SECONDS:
            return
        self._last = progress.elapsed_s
        recorder, rate = self._session.recorder, round(progress.per_second, 1)
        host = self._session.host.name
        recorder.add(records.Sample(host, round(progress.elapsed_s, 2), rate))
        total = sum(progress.operations.values())
        recorder.progress.update(f"{total:,} operations, {rate:,.0f}/s")


def latencies(history: History, host: str) -> Iterator[records.Latency]:
    """Yield the latency of every operation in every domain of ``history``."""
    for domain in dict.fromkeys(log.domain for log in history.threads):
        logs = [log for log in history.threads if log.domain == domain]
        ops = np.concatenate([log.records["op"] for log in logs])
        # From differences of ticks, which are exact within a domain; times are rounded.
        micros = np.concatenate(
            [
                (log.records["ret"] - log.records["call"]).astype(np.float64) * 1e6 / log.tick_hz
                for log in logs
            ]
        )
        returned = np.concatenate([log.records["ret"] != 0 for log in logs])
        for op in Op:
            these = micros[(ops == op) & returned]
            if len(these):
                p50, p90, p99 = (float(q) for q in np.percentile(these, (50, 90, 99)))
                yield records.Latency(
                    host, op.name.lower(), domain, len(these),
                    round(p50, 2), round(p90, 2), round(p99, 2), round(float(these.max()), 2),
                )  # fmt: skip
