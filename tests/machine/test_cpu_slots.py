# SPDX-License-Identifier: GPL-2.0-or-later
"""Places for emulated machines: one waits for another, and nobody for the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import cache
from harness.machine import cpu_slots

pytestmark = pytest.mark.slow

HOLD = """
import time
from harness.machine.cpu_slots import slot
with slot(10**6, print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


def test_as_many_as_there_are_cpus_for() -> None:
    assert [cpu_slots.slots(2, ours) for ours in (1, 2, 3, 4, 64)] == [1, 1, 1, 2, 32]


def test_the_second_waits_until_the_first_is_dead() -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    waited: list[str] = []

    def notice(text: str) -> None:
        waited.append(text)
        first.kill()
        first.wait()

    with cpu_slots.slot(10**6, notice):
        assert len(waited) == 1


def test_one_after_the_other_needs_no_waiting() -> None:
    for _ in range(2):
        with cpu_slots.slot(10**6, lambda text: pytest.fail(text)):
            pass


LOOP = """
import time
from harness.machine.cpu_slots import slot
for number in range(2000):
    with slot(10**6, lambda text: None):
        print(number, flush=True)
        time.sleep(0.02)
"""


def test_a_loop_of_runs_lets_others_in_at_once() -> None:
    loop = subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True)
    try:
        assert loop.stdout is not None and loop.stdout.readline() == "0\n"
        with cpu_slots.slot(10**6, lambda text: None):
            loop.kill()
            last = loop.stdout.read().split()[-1:] or ["0"]
        assert int(last[0]) < 30, "it went on while we waited"
    finally:
        loop.kill()
        loop.wait()
