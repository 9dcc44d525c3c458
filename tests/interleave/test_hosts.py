# SPDX-License-Identifier: GPL-2.0-or-later
"""Which scenarios can be forced in a tree: each step of theirs has to be one of its Xen's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.interleave.hosts import find_scenarios, forcible
from harness.verdict import ConfigError

ALL = find_scenarios(("all",), Arch.ARM64)
TWO_WRITERS = {"close-bind", "close-close"}


def tree(folder: Path, event_lock: str) -> Path:
    header = folder / "xen" / "include" / "xen" / "sched.h"
    header.parent.mkdir(parents=True)
    header.write_text(f"struct domain\n{{\n    {event_lock}         event_lock;\n}};\n")
    return folder


def test_two_writers_need_an_event_lock_that_is_a_rwlock(tmp_path: Path) -> None:
    """Seen with 4.15, which has a spinlock: a FAIL of a good Xen, "has never touched the lock"."""
    chosen, left_out = forcible(("all",), ALL, tree(tmp_path, "spinlock_t"))
    assert {each.name for each in ALL} - {each.name for each in chosen} == TWO_WRITERS
    assert left_out.startswith("without close-bind, close-close: event_lock is a spinlock")


def test_asked_for_by_name_they_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="close-close: event_lock is a spinlock in this Xen"):
        names = ("close-close", "send-close")
        forcible(names, find_scenarios(names), tree(tmp_path, "spinlock_t"))


def test_since_417_all_can_be_forced(tmp_path: Path) -> None:
    assert forcible(("all",), ALL, tree(tmp_path, "rwlock_t")) == (ALL, "")
