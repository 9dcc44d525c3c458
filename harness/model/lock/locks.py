# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock of each flavour."""

from __future__ import annotations

from harness.model.lock.counter import COUNTER_LOCK, POSTED_COUNTER_LOCK
from harness.model.lock.lock_functions import Lock
from harness.model.lock.rwlock import RWLOCK_LOCK
from harness.model.lock.spinlock import SPINLOCK_LOCK

LOCKS: dict[str, Lock] = {
    "spinlock": SPINLOCK_LOCK,
    # Its other defects are in how its call sites use the lock functions.
    "counter-v2": POSTED_COUNTER_LOCK,
    "counter": COUNTER_LOCK,
    "rwlock": RWLOCK_LOCK,
}
