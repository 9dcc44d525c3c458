/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The load: threads pinned to vCPUs, each with its own workload, on the channels of one pool. */
#ifndef AGENT_LOAD_H
#define AGENT_LOAD_H

#include <stdbool.h>

#include "actor.h"
#include "channel_pool.h"

#define MAX_THREADS 64u

/* What one load is made of. */
struct load_plan {
    uint64_t seed;
    uint32_t agent; /* number of this agent in the load: with the seed, it chooses the workloads */
    uint32_t run; /* number of the load, which the headers of its pages of records have */
    unsigned threads;
    size_t records; /* room per thread */
    struct pool_plan pool;
};

enum load_state { LOAD_IDLE, LOAD_READY, LOAD_RUNNING, LOAD_STOPPED };

/*
 * Lay out the pool, allocate its ports, and make the threads, which then wait for load_start().
 * No thread of an earlier load may be alive.  Returns how many channels there are, or -errno.
 */
int load_prepare(const struct load_plan *plan);

/* Let the threads begin.  Returns 0, or -EINVAL when no load is prepared. */
int load_start(void);

/* Have all threads end, and wait for them for 5 s at most: one may be stuck in Xen. */
void load_stop(void);

/* Read events until none has come for quiet_ms.  Returns how many came, or -errno. */
int load_drain(unsigned quiet_ms);

enum load_state load_state(void);

/* The threads of the latest load: `index` counts from 0. */
unsigned load_threads(void);
struct actor *load_actor(unsigned index); /* NULL: there is no such thread */
bool load_thread_alive(unsigned index);
bool load_thread_full(unsigned index); /* it has ended because its records are full */
bool load_alive(void); /* whether any thread is */

#endif
