# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lock a tree has, as its text says: how Xen itself has written it, and other ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.hypervisor.own_lock import own_lock

_EVENT_H = """\
/* evtchn_lock() { write_lock(&evtchn->lock) } was another one */
static inline bool port_is_valid(const struct domain *d, unsigned int p)
{
    return p < d->max_ports;
}

static inline void evtchn_write_lock(struct evtchn *evtchn)
{
    int val;

    for ( val = atomic_add_return(EVENT_WRITE_LOCK_INC, &evtchn->lock);
          val != EVENT_WRITE_LOCK_INC; )
        cpu_relax();
}
"""
_EVENT_CHANNEL_C = """\
static long evtchn_alloc_unbound(evtchn_alloc_unbound_t *alloc)
{
    spin_lock(&d->event_lock);
    spin_lock_irqsave(&chn->lock, flags);
"""


def tree(folder: Path, **files: str) -> Path:
    names = {
        "sched": "xen/include/xen/sched.h",
        "event": "xen/include/xen/event.h",
        "common": "xen/common/event_channel.c",
    }
    for name, text in files.items():
        path = folder / names[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "design", "seen"),
    [
        (
            {"sched": "struct evtchn\n{\n    spinlock_t lock;\n};\n", "common": _EVENT_CHANNEL_C},
            "spinlock",
            "spinlock_t lock in struct evtchn (xen/include/xen/sched.h:3), taken with "
            "spin_lock_irqsave by evtchn_alloc_unbound (xen/common/event_channel.c:4)",
        ),
        (
            {
                "sched": "struct evtchn\n{\n    atomic_t lock;   /* kind of rwlock */\n};\n",
                "event": _EVENT_H,
            },
            "counter",
            "atomic_t lock in struct evtchn (xen/include/xen/sched.h:3), taken with "
            "atomic_add_return by evtchn_write_lock (xen/include/xen/event.h:11)",
        ),
        (
            {
                "sched": "struct evtchn;\nvoid f(struct evtchn *chn);\n",
                "event": "struct evtchn {\n  u8 state;\n  union {\n    int a;\n  } u;\n"
                "  rwlock_t   lock;\n};\n",
            },
            "rwlock",
            "rwlock_t lock in struct evtchn (xen/include/xen/event.h:6)",
        ),
    ],
)
def test_a_lock_is_recognised(
    tmp_path: Path, files: dict[str, str], design: str, seen: str
) -> None:
    found = own_lock(tree(tmp_path, **files))
    assert found is not None
    assert (found.designs[0], found.seen) == (design, seen)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sched": "struct evtchn\n{\n    percpu_rwlock_t lock;\n};\n"},
        {"sched": "struct evtchn\n{\n    u8 state;\n};\nstruct domain\n{\n  rwlock_t lock;\n};\n"},
        {"sched": "/* struct evtchn { rwlock_t lock; }; */\n"},
    ],
)
def test_another_lock_is_not(tmp_path: Path, files: dict[str, str]) -> None:
    assert own_lock(tree(tmp_path, **files)) is None
