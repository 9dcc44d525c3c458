/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operations that a command can ask for, each made on the vCPU that is wanted. */
#ifndef BARE_OPS_H
#define BARE_OPS_H

#include "events.h"
#include "talk.h"

#define LIST 256u

struct job {
    struct command *command;
    enum fault fault;
    int64_t result; /* what Xen said: a value, or -errno */
    uint64_t call, ret; /* ticks */
    unsigned cpu;
    uint32_t list[LIST]; /* ports of a poll, a survey, ... */
    unsigned count;
    struct {
        uint32_t state, vcpu, remote, detail;
    } status;
};

/* Make the operation called `verb`, whose arguments are good, and answer.  False: no such verb. */
bool operation(struct job *job);

/* Close every port that was allocated and not closed; answer nothing. */
void close_all(void);

unsigned own_domid(void);

#endif
