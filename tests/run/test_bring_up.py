# SPDX-License-Identifier: GPL-2.0-or-later
"""A stage of bring-up that fails is told by its last words."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evidence import BringUp, Crash
from harness.run.bring_up import stage
from harness.verdict import HypervisorError, LabError

RECORDER: Any = SimpleNamespace(phase=lambda *_: nullcontext())
WORDS = ("starting xenstored", "FATAL: Failed to initialize dom0: Invalid argument")
CONSOLE: Any = SimpleNamespace(tail=lambda *_: [SimpleNamespace(text=text) for text in WORDS])


def test_a_fault_of_the_lab_gets_the_stage_and_dom0s_last_words() -> None:
    with pytest.raises(LabError) as caught, stage(RECORDER, "h", "boot", CONSOLE):
        raise LabError("no line matching 'up' within 180 s")
    assert caught.value.evidence == BringUp(stage="boot", last_words=WORDS)
    assert caught.value.story == "\n".join(WORDS)


def test_what_is_known_of_a_failure_stays() -> None:
    seen = Crash(what="kernel panic", stream="dom0", text="Kernel panic - not syncing")
    for kind in (LabError, HypervisorError):
        with pytest.raises(kind) as caught, stage(RECORDER, "h", "boot", CONSOLE):
            raise kind(seen)
        assert caught.value.evidence == seen
    with pytest.raises(HypervisorError) as judged, stage(RECORDER, "h", "boot", CONSOLE):
        raise HypervisorError("a test's word")
    assert judged.value.evidence is None
