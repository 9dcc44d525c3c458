/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "interrupts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The column of the counts that belongs to the vCPU: the first line names those that are online. */
static int column_of(const char *heading, unsigned vcpu)
{
    const char *at = heading;

    for (int column = 0; (at = strstr(at, "CPU")); column++) {
        char *end;
        if (strtoul(at + 3, &end, 10) == vcpu)
            return column;
        at = end;
    }
    return -ENODEV;
}

static uint64_t sum_of_columns(char *text, int first, int last)
{
    uint64_t sum = 0;
    char *rest;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *at = strchr(line, ':'), *end;
        for (int i = 0; at && i <= last; i++, at = end) {
            uint64_t value = strtoull(++at, &end, 10);
            if (end == at) /* a line with fewer counts */
                break;
            if (i >= first)
                sum += value;
        }
    }
    return sum;
}

int interrupts_of(unsigned vcpu, uint64_t *count)
{
    char text[1 << 15];
    size_t size = 0;
    ssize_t got = 1;
    int column, file = open("/proc/interrupts", O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return -errno;
    while (got > 0 && size < sizeof(text) - 1) {
        got = read(file, text + size, sizeof(text) - 1 - size);
        size += got > 0 ? (size_t)got : 0;
    }
    close(file);
    text[size] = '\0';
    if (got < 0)
        return -EIO;
    if (size == sizeof(text) - 1)
        return -EFBIG;
    column = vcpu == ALL_VCPUS ? 0 : column_of(text, vcpu);
    if (column < 0)
        return column;
    *count = sum_of_columns(text, column, vcpu == ALL_VCPUS ? INT_MAX : column);
    return 0;
}
