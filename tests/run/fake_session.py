# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that is not booted: what the fixtures of the pytest plugin get in place of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.config.physical import Host
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.verdict import HarnessError, LabError


class FakeSession:
    """A host whose health a test case can set."""

    def __init__(self, host: Host, recorder: Recorder) -> None:
        self.host = host
        self.recorder = recorder
        self.trouble: HarnessError | None = None
        self.agents: dict[str, object] = {}
        self.domus: list[object] = []

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    ready = restore = check

    def cause(self, error: BaseException) -> BaseException:
        return self.trouble or error


@dataclass
class Lab:
    """What its hosts do: which raise what when they are booted, or when they are switched off.

    ``seen`` is what was done with them, in order.
    """

    boot: dict[str, HarnessError] = field(default_factory=dict)
    off: dict[str, HarnessError] = field(default_factory=dict)
    boots: int = 99  # how often a host can be booted
    plans: list[Plan] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    @contextmanager
    def session(
        self, plan: Plan, host: Host, recorder: Recorder, questions: object = None
    ) -> Iterator[FakeSession]:
        """Stand for harness.run.up.session."""
        self.plans.append(plan)
        if host.name in self.boot:
            raise self.boot[host.name]
        if self.seen.count(f"{host.name} on") >= self.boots:
            raise LabError("no serial line")
        self.seen.append(f"{host.name} on")
        try:
            yield FakeSession(host, recorder)
        finally:
            self.seen.append(f"{host.name} off")
            if host.name in self.off:
                raise self.off[host.name]
