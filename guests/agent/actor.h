/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who makes operations: one thread, pinned to one vCPU, with its records and its hypercalls. */
#ifndef AGENT_ACTOR_H
#define AGENT_ACTOR_H

#include <stdint.h>

#include "buffer.h"
#include "xen_abi.h"

#define UNKNOWN_DOMID 0xffffu

/* What is wrong with the address of the argument that Xen is given. */
enum fault {
    FAULT_NONE,
    FAULT_IN, /* nothing is mapped there: Xen cannot read its argument */
    FAULT_OUT, /* the page is read-only: Xen can read its argument, and cannot write to it */
};

struct actor {
    struct buffer log;
    union hypercall_arg *arg; /* in memory that Xen can read and write */
    void *read_only; /* a page for FAULT_OUT, made when first used */
    enum fault fault; /* of the hypercalls that follow */
    uint16_t domid; /* UNKNOWN_DOMID without a Xen, and until own_domid() has found it out */
    uint16_t vcpu;
    uint16_t thread;
};

/* Give an actor the memory of its argument and room for `records` records.  Returns 0 or -errno. */
int actor_create(struct actor *a, uint16_t thread, uint16_t vcpu, size_t records);

void actor_destroy(struct actor *a);

/* Forget the actor's records.  Those that follow belong to load `run` (0: single operations). */
void actor_restart(struct actor *a, uint32_t run);

/*
 * A hypercall whose second argument is the address of a->arg, or what a->fault makes of it.
 * It is not recorded.  Returns Xen's value >= 0, or -errno.
 */
int actor_hypercall(struct actor *a, uint64_t number, uint64_t first);

#endif
