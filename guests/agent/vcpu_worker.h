/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One worker thread per vCPU, which makes single operations when asked.  The thread that speaks
 * the protocol never enters Xen's event channel code itself: when an operation does not return
 * from Xen, the agent still answers, and says which one it is.
 */
#ifndef AGENT_VCPU_WORKER_H
#define AGENT_VCPU_WORKER_H

#include <stdbool.h>

#include "raw.h"

#define MAX_VCPUS 64u
#define MAX_NUMBERS 256u

struct job;
typedef int (*job_function)(struct actor *a, struct job *job);

/*
 * One operation: what to do, and what came of it.  A worker has its own copy, so that an operation
 * that returns late finds its memory there.
 */
struct job {
    /* What takes long and can be done before it waits for the others; NULL: nothing. */
    void (*prepare)(struct actor *a, struct job *job);
    job_function run;
    unsigned barrier; /* so many workers begin together; 0: this one waits for nobody */
    uint64_t lag; /* ticks: so much later than they */
    unsigned handle;
    enum fault fault;
    uint32_t a, b; /* the operation's own two arguments */
    uint32_t numbers[MAX_NUMBERS]; /* ports that it takes or gives, ticks of each poll, ... */
    unsigned count; /* of these */
    int result; /* >= 0, or -errno */
    struct channel_status status;
    uint64_t rates[2]; /* of a bench */
    uint64_t interrupts; /* of a poll: of its vCPU, before */
    uint64_t frame; /* of init_control and expand_array; 0: one that does not exist */
    struct record record; /* the last one that it made */
};

/* Start a worker on each of the first `count` vCPUs.  Returns 0 or -errno. */
int workers_start(unsigned count);
unsigned workers_count(void);

/* The worker's own actor, for its records. */
struct actor *worker_actor(unsigned vcpu);

/* Whether the worker has an operation whose end has not been seen by worker_wait(). */
bool worker_busy(unsigned vcpu);

/* Start an operation.  Returns 0, or -EBUSY while the worker still has one. */
int worker_begin(unsigned vcpu, const struct job *job);

/* Wait for its end.  Returns 0 and fills *job, -ETIME when it has not ended, -ENOENT if none. */
int worker_wait(unsigned vcpu, unsigned timeout_ms, struct job *job);

/* Start an operation and wait for its end.  Returns 0, or what one of the two returned. */
int worker_run(unsigned vcpu, unsigned timeout_ms, struct job *job);

#endif
