/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing counters: of two vCPUs of one domain, and of a domU with dom0. */
#ifndef AGENT_CLOCK_H
#define AGENT_CLOCK_H

#include <stdint.h>

#include "shared.h"

/* Two readings of two counters that were made at the same moment, within +- error ticks. */
struct comparison {
    uint64_t local;
    uint64_t remote;
    uint64_t error;
    uint64_t exchanges;
};

/* Where the exchange with dom0 happens; NULL in dom0 itself, whose counter is the reference. */
extern struct control *clock_peer;

/* Compare with dom0.  Returns 0, or -ETIMEDOUT when the relay did not answer once. */
int clock_compare(struct comparison *best);

/* The relay's side: answer pings until no more are wanted. */
void clock_answer(struct control *shared);

/*
 * How far the counters of the domain's vCPUs can be apart at most, in ticks, as far as an
 * exchange between threads pinned to them can tell.  Returns 0 or -errno.
 */
int clock_skew(unsigned vcpus, uint64_t *bound);

#endif
