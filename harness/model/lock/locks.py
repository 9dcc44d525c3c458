# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock of each flavour."""

from __future__ import annotations

from dataclasses import replace

from harness.model.lock.counter import COUNTER_LOCK
from harness.model.lock.lock_functions import Lock
from harness.model.lock.rwlock import RWLOCK_LOCK
from harness.model.lock.spinlock import SPINLOCK_LOCK

LOCKS: dict[str, Lock] = {
    "spinlock": SPINLOCK_LOCK,
    # The lock functions of counter-v2 are right.  What is wrong is how its call sites use them.
    "counter-v2": replace(COUNTER_LOCK, name="counter-v2"),
    "counter": COUNTER_LOCK,
    "rwlock": RWLOCK_LOCK,
}
