# SPDX-License-Identifier: GPL-2.0-or-later
"""A hunt's guest on a host that is not booted: whose fault it is that it does not start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from harness.agent.wire import AgentLost
from harness.config.host import BUILT_IN
from harness.fuzz import subject as room
from harness.verdict import HarnessError, HypervisorError
from tests.run.toy_plan import plan

LOST = AgentLost("bare: the channel ended during 'reset'")
CRASH = HypervisorError("Xen died: Assertion failed")


@pytest.mark.parametrize("cause", [CRASH, LOST])
def test_a_xen_that_dies_of_the_guests_first_calls_is_to_blame(
    cause: HarnessError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise LOST

    @contextmanager
    def session(*_: object) -> Iterator[Any]:
        yield SimpleNamespace(cause=lambda _error: cause)

    domains = SimpleNamespace(bare_types=("arm",), obstacles={}, begin=lambda: None, bare=start)
    monkeypatch.setattr(room, "session", session)
    monkeypatch.setattr(room, "HostDomains", lambda _live: domains)
    recorder: Any = SimpleNamespace(phase=lambda *_: nullcontext())
    with (
        pytest.raises(type(cause), match=str(cause)[:9]),
        room.subject(plan(BUILT_IN["qemu-arm64"]), None, recorder),
    ):
        pass
