# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree that looks like Xen's to a build, but is made in a second."""

from __future__ import annotations

from pathlib import Path

MAKEFILE = """\
export XEN_VERSION       = 4
export XEN_SUBVERSION    = 17
export XEN_EXTRAVERSION ?= .9$(XEN_VENDORVERSION)
all: xen
clean distclean:
\trm -f xen xen-syms *.o
olddefconfig:
\techo "CONFIG_TOY=y" >>.config
xen: xen-syms
\tcp xen-syms xen
xen-syms: main.o
\t$(CROSS_COMPILE)ld --build-id=sha1 -e evtchn_write_lock -o $@ $<
%.o: %.c Makefile
\t@echo "  CC      $@"
\t$(CC) $(CFLAGS) $(EXTRA_CFLAGS_XEN_CORE) -g -Iinclude -c -o $@ $<
"""
SCHED_H = "struct evtchn\n{\n    rwlock_t lock;\n};\n"
MAIN_C = """\
void evtchn_write_lock(int *lock)
{
    *lock += 8192;
}
static int counter;
int *evtchn_read_unlock(void) { return &counter; }
"""


def make_tree(folder: Path) -> Path:
    """Write the tree into ``folder`` and return it."""
    for name, text in {
        "Config.mk": "# nothing\n",
        "xen/Makefile": MAKEFILE,
        "xen/main.c": MAIN_C,
        "xen/include/xen/sched.h": SCHED_H,
        "tools/libxl/unused.c": "not read\n",
        "stubdom/unused.c": "not even unpacked\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
