# SPDX-License-Identifier: GPL-2.0-or-later
"""A little event_channel.c: ours, with one place for every rule, and a main that tells its answers.

It compiles on the computer that runs the tests, so that a mutant's behaviour can be seen.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

FILE = "xen/common/event_channel.c"
EVENT_H = "xen/include/xen/event.h"

HEADER = b"""\
#ifndef TOY_EVENT_H
#define TOY_EVENT_H
#include <xen/sched.h>
static inline bool toy_valid(const struct domain *d, unsigned int port)
{
    return port < d->valid;
}
#endif
"""

TEXT = b"""\
#include <xen/event.h>

static bool cf_check toy_ready(const struct domain *d, unsigned int port)
{
    ASSERT(port < 100);
    if ( unlikely(!d) || port > 9 )
        return false;
    return true;
}

static int toy_send(struct domain *ld, struct domain *rd, unsigned int port)
{
    int rc = 0;

    read_lock(&ld->lock);

    /* The other end is told: */
    rd->pending = port;
    if ( !toy_ready(ld, port) )
    {
        rc = -EINVAL;
        goto out;
    }
    smp_wmb();
    ld->sent++;

 out:
    read_unlock(&ld->lock);
    return rc;
}

static void dump_toy(const struct domain *d)
{
    if ( d->sent > 3 )
        printk("%d", d->sent);
}
"""

SCHED_H = """\
#include <stdbool.h>
#include <stdio.h>
#include <errno.h>
struct domain { int lock, held, tried; unsigned int pending, valid; int sent; };
#define ASSERT(x) ((void)(x))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define __read_mostly
#define cf_check
#define printk printf
#define smp_wmb() __sync_synchronize()
#define read_lock(l) (++*(l))
#define read_trylock(l) (++*(l))
#define read_unlock(l) (--*(l))
"""

# Keeps the functions in an object that has no main.
MORE = """
int toy_all(struct domain *d, struct domain *e, unsigned int port)
{
    dump_toy(d);
    return toy_send(d, e, port) + toy_valid(d, port);
}
"""

_MAIN = """
int main(int argc, char **argv)
{
    struct domain l = { .valid = 7 }, r = { .valid = 7 };
    sscanf(argv[1], "%u", &ON);
    printf("%d ", toy_send(&l, &r, 5));
    printf("%d ", toy_send(&l, &r, 10));
    printf("%d %u %u %d %d %d;", l.sent, l.pending, r.pending, l.lock, r.lock, toy_valid(&l, 7));
    for ( unsigned int i = 0; i < sizeof(MET); i++ )
        printf(" %d", MET[i]);
    if ( argc > 2 ) dump_toy(&l);
    return 0;
}
"""


def texts() -> dict[str, bytes]:
    """Return the files that are mutated."""
    return {FILE: TEXT, EVENT_H: HEADER}


def answers(
    made: dict[str, bytes], folder: Path, variable: str, met: str, on: list[int]
) -> list[str]:
    """Compile ``made`` with a main; return what it prints with ``variable`` as each of ``on``."""
    for name, text in {**made, "xen/include/xen/sched.h": SCHED_H.encode()}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    (folder / "xen/include/xen/types.h").write_text("#include <stdbool.h>\n")
    main = _MAIN.replace("ON", variable).replace("MET", met)
    with (folder / FILE).open("ab") as file:
        file.write(main.encode())
    program = str(folder / "toy")
    words = [
        "gcc",
        "-Wall",
        "-Werror",
        "-Wno-unused-label",
        "-O1",
        f"-I{folder}/xen/include",
        "-o",
        program,
    ]
    subprocess.run([*words, str(folder / FILE)], check=True)
    return [
        subprocess.run([program, str(each)], capture_output=True, text=True, check=True).stdout
        for each in on
    ]
