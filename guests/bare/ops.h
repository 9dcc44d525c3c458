/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operations that a command can ask for. */
#ifndef BARE_OPS_H
#define BARE_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "events.h"
#include "protocol.h"

#define MAX_NUMBERS 256u

/* One operation: what to do, and what came of it. */
struct job {
    struct command *command; /* its verb and arguments */
    enum fault fault;
    int64_t result; /* what Xen said: a value, or -errno */
    uint64_t call, ret; /* ticks */
    unsigned vcpu; /* that makes it */
    uint32_t numbers[MAX_NUMBERS]; /* ports to poll, ports that were taken, ... */
    unsigned count;
    struct {
        uint32_t state, vcpu, remote, detail;
    } status;
};

/* Make the operation on this vCPU and begin its answer.  Returns whether there is such a verb. */
bool make_operation(struct job *job);

/* EVTCHNOP_status; what Xen tells is then in job->status. */
void get_status(struct job *job, uint16_t owner, uint32_t port);

/* The verb "look": no operation, but what has come of one. */
void look(struct job *job);

/* Close every port that we have allocated and not closed; no answer. */
void close_all(void);

/* Our own domid, which is the remote end of a channel to DOMID_SELF. */
unsigned own_domid(void);

#endif
