# SPDX-License-Identifier: GPL-2.0-or-later
"""Has the bare guest, and dom0, run programmes: bytes to them, and what they have seen back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused, Answer, Connection
from harness.fuzz.programme import MAX_STEPS, SEEN, TIMED, Step, encode
from harness.verdict import HarnessError, LabError

# The guest answers nothing while it runs a programme; some take seconds on a busy machine.
_SECONDS = 60.0
_VCPUS = 2


@dataclass(frozen=True)
class Timed:
    """The bytes of what both sides have seen and when.

    ``tick_hz``: how often the counter ticks that both vCPUs have; None: dom0 has another one.
    """

    seen: tuple[bytes, bytes]
    tick_hz: int | None


@dataclass(frozen=True)
class Dom0:
    """The agent in dom0, which makes steps while the guest makes its own."""

    connection: Connection
    guest: int  # domid
    meeting: int  # the grant of the page in which both meet
    vcpu: int  # that makes them


def dom0_beside(guest: AgentClient, dom0: AgentClient) -> Dom0 | None:
    """Return ``dom0`` as the one that ``guest`` can meet; None: the guest grants no page."""
    meeting = guest.connection.ask("hello").integer("meeting", 0)
    if not meeting:
        return None
    return Dom0(dom0.connection, guest.domid, meeting, dom0.info.vcpus - 1)


class ProgrammeGuest:
    """The guest's end of the protocol's verb ``programme``; see docs/agent-protocol.md."""

    dom0: Dom0 | None = None  # None: there is none that it can meet

    def __init__(self, connection: Connection, dom0: Dom0 | None = None) -> None:
        self._connection = connection
        self.dom0 = dom0
        self._steps_of_dom0 = 0
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

    def begin_with_dom0(self, both: tuple[Sequence[Step], Sequence[Step]]) -> None:
        """Have vCPU 0 and dom0 make their steps at the same time; next, ``end_with_dom0``."""
        if self.dom0 is None:
            raise LabError("dom0 has no agent that the guest can meet", where=self._connection.name)
        self._post((both[0], ()), timed=True, with_dom0=True)
        self._steps_of_dom0 = len(both[1])
        arguments = {
            "number": self.number,
            "steps": len(both[1]),
            "peer": self.dom0.guest,
            "meeting": self.dom0.meeting,
            "on": self.dom0.vcpu,
        }
        self.dom0.connection.post([("programme", arguments)], encode(both[1]))

    def end_with_dom0(self) -> Timed:
        """Return what they have seen and when.  Raises as ``end`` does."""
        assert self.dom0 is not None
        size = self._steps_of_dom0 * TIMED.size
        try:
            guest = self._collect()
        except AgentRefused:
            with suppress(HarnessError):  # so that dom0 can be asked other things
                _answered(self.dom0.connection, size)
            raise
        theirs = _answered(self.dom0.connection, size)
        return Timed((guest.payload, theirs.payload), None)

    def run_with_dom0(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
        """Do both."""
        self.begin_with_dom0(both)
        return self.end_with_dom0()

    def _post(
        self,
        both: tuple[Sequence[Step], Sequence[Step]],
        *,
        timed: bool,
        with_dom0: bool = False,
    ) -> None:
        if max(map(len, both)) > MAX_STEPS:
            raise HarnessError(f"a programme has at most {MAX_STEPS} steps")
        self._expected = sum(map(len, both)) * (TIMED if timed else SEEN).size
        self.number = secrets.randbits(62) | 1
        arguments = {
            "number": self.number,
            "steps": len(both[0]),
            "second": len(both[1]),
            "timed": int(timed),
            "dom0": int(with_dom0),
        }
        self._connection.post([("programme", arguments)], encode(both[0]) + encode(both[1]))

    def _collect(self) -> Answer:
        return _answered(self._connection, self._expected)


def _answered(connection: Connection, expected: int) -> Answer:
    (answer,) = connection.collect(1, _SECONDS, largest=expected)
    if not answer.ok:
        raise AgentRefused(connection.name, "programme", answer)
    if len(answer.payload) != expected:
        raise HarnessError(
            f"{len(answer.payload)} bytes instead of {expected} from {connection.name}",
            where=connection.name,
        )
    return answer
