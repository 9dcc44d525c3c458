/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compares CPU counters: of a domU with dom0, and of the vCPUs of one domain. */
#ifndef AGENT_CLOCK_H
#define AGENT_CLOCK_H

#include <stdint.h>

#include "shared.h"

/* Readings of two counters, made at the same moment or at most `error` ticks apart. */
struct comparison {
    uint64_t local;
    uint64_t remote;
    uint64_t error;
    uint64_t exchanges; /* how many were made to find this, the best one */
};

/* The page shared with dom0; NULL in dom0 itself, whose counter is the reference. */
extern struct control *clock_peer;

/* Compare our counter with dom0's.  Returns 0, or -ETIMEDOUT when the relay never answers. */
int clock_compare(struct comparison *best);

/* The relay's side of that: answer pings as long as the other side wants it to. */
void clock_answer(struct control *shared);

/*
 * Compare the counters of the domain's vCPUs, with threads that are pinned to them: *bound is how
 * many ticks two of them can be apart at most.  Returns 0 or -errno.
 */
int clock_skew(unsigned vcpus, uint64_t *bound);

#endif
