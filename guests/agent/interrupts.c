/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "interrupts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "  25:   12   0   xen-dyn    -event     evtchn:agent" */
static size_t add_counts(const char *line, uint64_t *counts, size_t room)
{
    const char *at = strchr(line, ':');
    size_t cpu = 0;

    for (at = at ? at + 1 : line; cpu < room; cpu++) {
        char *end;
        uint64_t value = strtoull(at, &end, 10);
        if (end == at)
            break;
        counts[cpu] += value;
        at = end;
    }
    return cpu;
}

int evtchn_interrupts(uint64_t *counts, size_t room)
{
    FILE *file = fopen("/proc/interrupts", "r");
    char line[4096];
    size_t cpus = 0;

    if (!file)
        return -errno;
    memset(counts, 0, room * sizeof(*counts));
    while (fgets(line, sizeof(line), file))
        if (strstr(line, " evtchn:"))
            cpus = add_counts(line, counts, room);
    fclose(file);
    return (int)cpus;
}
