# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C while an order is forced, or its control: the machine ends, and need not be restored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.interleave import reorder
from harness.interleave.reorder import Forcer
from harness.interleave.reorder_scenarios import SEND_SWITCH
from harness.interleave.reorderings import Moved, Reordering
from harness.interleave.target import Stuck
from harness.verdict import LabError

_EARLY = Reordering(
    Moved.LOAD_EARLY, "evtchn_fifo_set_pending", "evtchn_port_ops", 0x20, 0, "what", ()
)


def forcer(monkeypatch: pytest.MonkeyPatch, control: bool, error: BaseException) -> Forcer:
    """Return a forcer with ``error`` in its ``control``, or behind it; then no restore succeeds."""
    failed = False

    def publish(*_: object, in_order: bool) -> None:
        nonlocal failed
        if in_order is control:
            failed = True
            raise error

    def restore(_: object) -> None:
        if failed:
            raise LabError("does not answer")

    monkeypatch.setattr(reorder, "aim", lambda *_: ())
    monkeypatch.setattr(reorder, "Cpus", lambda *_: SimpleNamespace(steps=[]))
    monkeypatch.setattr(reorder, "publish", publish)
    stub = SimpleNamespace(halted=lambda: None)
    live = SimpleNamespace(restore=restore)
    return Forcer(cast(Any, SimpleNamespace(live=live, stub=stub)), _EARLY, SEND_SWITCH)


@pytest.mark.parametrize("control", [True, False], ids=["control", "forced"])
def test_ctrl_c_is_not_hidden_by_a_restore_that_fails(
    monkeypatch: pytest.MonkeyPatch, control: bool
) -> None:
    with pytest.raises(KeyboardInterrupt):
        forcer(monkeypatch, control, KeyboardInterrupt()).force()


@pytest.mark.parametrize("control", [True, False], ids=["control", "forced"])
def test_after_other_errors_the_machine_is_restored(
    monkeypatch: pytest.MonkeyPatch, control: bool
) -> None:
    with pytest.raises(LabError, match="does not answer"):
        forcer(monkeypatch, control, Stuck("CPU0 does not come")).force()
