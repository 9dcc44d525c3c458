# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent in this process that speaks the protocol and fails where a test wants it to."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness.agent.pages import MAGIC, PAGE

VCPUS = 2
HZ = 1_000_000_000


def page(domid: int, thread: int, operations: int) -> bytes:
    """One page with ``operations`` sends, an instant apart."""
    pages = np.zeros(1, PAGE)
    pages["header"]["magic"], pages["header"]["records"] = MAGIC, 127
    pages["header"]["domid"], pages["header"]["thread"] = domid, thread
    records = pages["records"][0][:operations]
    records["op"] = 6
    records["call"] = time.monotonic_ns() + 10 * np.arange(operations, dtype=np.uint64)
    records["ret"] = records["call"] + 5
    return pages.tobytes()


class FakeAgent:
    """An AgentChannel.  ``faults`` maps a verb to what happens instead of its answer."""

    def __init__(self, domid: int, everybody: list[str]) -> None:
        self.domid = domid
        self.faults: dict[str, Callable[[], bytes | None]] = {}
        self.asked: list[str] = []
        self._everybody = everybody  # what all agents together were asked, in order
        self.operations = 0  # of each load thread
        self.closed = False
        self._out = b""
        self._ended = False

    def write(self, data: bytes) -> None:
        if self._ended:
            raise BrokenPipeError
        for line in data.decode().splitlines():
            verb = line.split()[0]
            self.asked.append(line)
            self._everybody.append(line)
            fault = self.faults.get(verb)
            answer = fault() if fault else self._answer(verb, line)
            if answer is None:
                self._ended = True
            else:
                self._out += answer

    def read(self, limit: int, timeout: float) -> bytes:
        if not self._out and not self._ended:
            time.sleep(min(timeout, 0.2))
            raise TimeoutError
        data, self._out = self._out[:limit], self._out[limit:]
        return data

    def close(self) -> None:
        self.closed = True

    def _answer(self, verb: str, line: str) -> bytes:
        now = time.monotonic_ns()
        if verb == "collect":
            body = page(self.domid, int(line.rpartition("=")[2]), 3)
            return b"ok vcpu=0 done=3 lost=0 bytes=%d\n" % len(body) + body
        if verb == "load_status":
            self.operations += 100
        word = {
            "hello": f"protocol=2 arch=x86_64 domid={self.domid} vcpus={VCPUS} tick_hz={HZ} "
            "record=32 page=4096 xen=4.17",
            "clock": f"local={now} remote={now} error=100 exchanges=9 skew=50 tick_hz={HZ}",
            "load_begin": "channels=9 first_thread=2 ports_0=11 ports_1=12,13 ports_2=14",
            "load_status": f"state=running alive=2 full=0 operations={self.operations},"
            f"{self.operations} in_flight=",
            "load_stop": "stuck=",
            "release": "asked=9 open=",
        }.get(verb, "")
        return f"ok {word}\n".encode()


def ended() -> None:
    """A fault: the channel ends."""


def silent() -> bytes:
    """A fault: no answer comes."""
    return b""


def says(line: str) -> Callable[[], bytes]:
    """A fault: another answer."""
    return lambda: line.encode() + b"\n"
