# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine under the debugger gets the time that it was starved of."""

from __future__ import annotations

from typing import cast

import pytest

from harness.interleave.target import stopped
from harness.machine.patience import Deadline
from harness.machine.rsp import Stop, Stub

AT = Stop(5, 1)


class SlowStub:
    """Its machine stops in the third wait."""

    def __init__(self) -> None:
        self.waits = 0

    def wait(self, _seconds: float) -> Stop | None:
        self.waits += 1
        return AT if self.waits == 3 else None


class Ticking:
    """A machine's clock that goes on by ``step`` with each look."""

    starved = 0.0

    def __init__(self, step: float) -> None:
        self.step, self.seconds = step, 0.0

    def now(self) -> float:
        self.seconds += self.step
        return self.seconds


@pytest.mark.parametrize(("step", "stop", "waits"), [(0.0, AT, 3), (0.1, AT, 3), (9.0, None, 1)])
def test_a_wait_lasts_as_long_as_the_machine_had_its_cpus(
    step: float, stop: Stop | None, waits: int
) -> None:
    stub = SlowStub()
    assert stopped(cast(Stub, stub), Deadline(Ticking(step), 2.0)) == stop
    assert stub.waits == waits
