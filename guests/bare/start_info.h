/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What Xen tells a PV guest at its start (Xen's struct start_info). */
#ifndef BARE_START_INFO_H
#define BARE_START_INFO_H

#include <stdint.h>

struct start_info {
    char magic[32];
    uint64_t pages;
    uint64_t shared_info; /* machine address */
    uint32_t flags;
    uint64_t xenstore_frame;
    uint32_t xenstore_port;
    uint64_t console_frame;
    uint32_t console_port;
    uint64_t top_table; /* virtual address */
    uint64_t tables;
    uint64_t *frames; /* machine frames, by our own frame number */
};

/* Set by the entry point of a PV guest (start-x86_64.S); NULL in any other. */
extern struct start_info *start_info;

#endif
