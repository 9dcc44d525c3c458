/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One thread per vCPU that makes single operations when asked.  The thread that speaks the
 * protocol never enters Xen's event channel code itself: when an operation does not come
 * back, the agent still answers, and says which one it is.
 */
#ifndef AGENT_HANDS_H
#define AGENT_HANDS_H

#include <stdbool.h>

#include "raw.h"

#define MAX_VCPUS 64u
#define MAX_EVENTS 256u

struct request;
typedef int (*operation)(struct actor *a, struct request *q);

/* What to do, and what came of it. */
struct request {
    operation run;
    unsigned meet; /* how many hands begin together; 0: this one alone */
    unsigned handle;
    enum fault fault;
    uint32_t a, b; /* the operation's own two arguments */
    uint32_t ports[MAX_EVENTS]; /* events to write back, or that were read; ticks that polls took */
    unsigned count;
    int result;
    struct channel_status status;
    uint64_t values[2]; /* two more numbers that came of it */
    struct record record; /* the last one it made */
};

/* Start a hand on each of the first `count` vCPUs.  Returns 0 or -errno. */
int hands_start(unsigned count);
unsigned hands_count(void);

/* The hand's own actor, for its records. */
struct actor *hand_actor(unsigned vcpu);

/* Whether the hand has an operation that nobody has seen the end of. */
bool hand_busy(unsigned vcpu);

/* Start an operation.  Returns 0, or -EBUSY while the hand still has one. */
int hand_begin(unsigned vcpu, const struct request *q);

/* Wait for its end.  Returns 0 and fills *q, -ETIME when it has not ended, -ENOENT if none. */
int hand_join(unsigned vcpu, unsigned timeout_ms, struct request *q);

/* Start an operation and wait for its end.  Returns 0, or what one of the two returned. */
int hand_run(unsigned vcpu, unsigned timeout_ms, struct request *q);

#endif
