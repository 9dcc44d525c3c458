# SPDX-License-Identifier: GPL-2.0-or-later
"""Has the bare guest run programmes: bytes to it, and what it has seen back from it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from harness.agent.wire import AgentRefused, Answer, Connection
from harness.fuzz.programme import MAX_STEPS, SEEN, TIMED, Step, encode
from harness.verdict import HarnessError

# The guest answers nothing while it runs a programme; some take seconds on a busy machine.
_SECONDS = 60.0
_VCPUS = 2


@dataclass(frozen=True)
class Timed:
    """The bytes of what both vCPUs have seen and when, and how often their counter ticks."""

    seen: tuple[bytes, bytes]
    tick_hz: int


class ProgrammeGuest:
    """The guest's end of the protocol's verb ``programme``; see docs/agent-protocol.md."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._expected = 0  # bytes
        self._first = 0  # steps of vCPU 0, of which there are times
        self.number = 0  # of the last programme; another one each time, also between runs

    def begin(self, steps: Sequence[Step], vcpu: int) -> None:
        """Have ``vcpu`` make ``steps``; next, ``end`` has to be called."""
        both: tuple[Sequence[Step], Sequence[Step]] = (steps, ()) if vcpu == 0 else ((), steps)
        self._post(both, timed=False)

    def end(self) -> bytes:
        """Return what was seen after each step that was begun, as it came (SEEN).

        Raises what the connection raises: AgentLost, or HypervisorError if Xen hangs.
        """
        return self._collect().payload

    def run(self, steps: Sequence[Step], vcpu: int) -> bytes:
        """Do both."""
        self.begin(steps, vcpu)
        return self.end()

    def begin_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> None:
        """Have both vCPUs make their steps at the same time; next, call ``end_timed``."""
        self._first = len(both[0])
        self._post(both, timed=True)

    def end_timed(self) -> Timed:
        """Return what they have seen and when.  Raises as ``end`` does."""
        answer = self._collect()
        first = self._first * TIMED.size
        seen = answer.payload[:first], answer.payload[first:]
        return Timed(seen, answer.integer("tick_hz"))

    def run_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
        """Do both."""
        self.begin_timed(both)
        return self.end_timed()

    def _post(self, both: tuple[Sequence[Step], Sequence[Step]], *, timed: bool) -> None:
        if max(map(len, both)) > MAX_STEPS:
            raise HarnessError(f"a programme has at most {MAX_STEPS} steps")
        self._expected = sum(map(len, both)) * (TIMED if timed else SEEN).size
        self.number = secrets.randbits(62) | 1
        arguments = {
            "number": self.number,
            "steps": len(both[0]),
            "second": len(both[1]),
            "timed": int(timed),
        }
        self._connection.post([("programme", arguments)], encode(both[0]) + encode(both[1]))

    def _collect(self) -> Answer:
        (answer,) = self._connection.collect(1, _SECONDS, largest=self._expected)
        if not answer.ok:
            raise AgentRefused(self._connection.name, "programme", answer)
        if len(answer.payload) != self._expected:
            raise HarnessError(
                f"{len(answer.payload)} bytes instead of {self._expected} from the guest",
                where=self._connection.name,
            )
        return answer
