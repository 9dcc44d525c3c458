# SPDX-License-Identifier: GPL-2.0-or-later
"""Before an order of publication is forced, its control must show nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.interleave import reorder
from harness.interleave.reorder import Forcer
from harness.interleave.reorder_scenarios import SEND_SWITCH
from harness.interleave.reorderings import Moved, Reordering
from harness.verdict import HypervisorError, LabError

_EARLY = Reordering(
    Moved.LOAD_EARLY, "evtchn_fifo_set_pending", "evtchn_port_ops", 0x20, 0, "what", ()
)


class Machine:
    """Xen dies where ``dies`` says so; notes what was done with the machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *dies: bool) -> None:
        self.done: list[str] = []
        self._dies = dies  # by in_order
        monkeypatch.setattr(reorder, "aim", lambda *_: ())
        monkeypatch.setattr(reorder, "Cpus", lambda *_: SimpleNamespace(steps=["CPU0: sends"]))
        monkeypatch.setattr(reorder, "publish", self._publish)
        live = SimpleNamespace(restore=lambda _: self.done.append("restore"))
        stub = SimpleNamespace(halted=lambda: None)
        debugged = cast(Any, SimpleNamespace(live=live, stub=stub))
        self.forcer = Forcer(debugged, _EARLY, SEND_SWITCH)

    def _publish(self, _cpus: object, _reordering: Reordering, in_order: bool) -> None:
        self.done.append("in order" if in_order else "forced")
        if self._dies[in_order]:
            raise HypervisorError("Data Abort")


def test_the_control_comes_once_and_the_machine_is_restored_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, True, False)
    shown = [machine.forcer.force().shows for _ in range(2)]
    assert shown == ["Data Abort"] * 2
    assert machine.done == ["in order", "restore", *["forced", "restore"] * 2]


def test_a_control_that_shows_something_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, True, True)
    with pytest.raises(LabError, match="though nothing is out of order: Data Abort"):
        machine.forcer.force()
    assert machine.done == ["in order", "restore"]
