/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channel operations, each recorded: raw hypercalls through /dev/xen/privcmd, and the
 * device's own through /dev/xen/evtchn.  All return what Xen or the device said: a value
 * >= 0, or -errno.
 */
#ifndef AGENT_OPS_H
#define AGENT_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"
#include "buffer.h"
#include "ports.h"

/* What is wrong with the address of the argument that Xen is given. */
enum fault {
    FAULT_NONE,
    FAULT_IN, /* nothing is there */
    FAULT_OUT, /* Xen can read it, and not write it */
};

/* Somebody who makes operations: one thread, pinned to one vCPU. */
struct actor {
    struct buffer log;
    union hypercall_arg *arg; /* resident memory that Xen reads and writes */
    void *read_only; /* a page for FAULT_OUT, made when first used */
    enum fault fault; /* of the next operations */
    uint16_t vcpu;
    uint16_t thread;
};

/* What EVTCHNOP_status tells. */
struct channel_status {
    uint32_t state;
    uint32_t vcpu;
    uint32_t remote; /* domid, of unbound and interdomain channels */
    uint32_t detail; /* remote port, virq or pirq */
};

/* Open the devices.  Returns 0, or -errno when there is no Xen to talk to. */
int ops_open(void);

/* Give an actor its argument page and room for `records` records.  Returns 0 or -errno. */
int actor_create(struct actor *a, uint16_t thread, uint16_t vcpu, size_t records);

void actor_destroy(struct actor *a);

/* Start the actor's records anew, as part of load `run`. */
void actor_restart(struct actor *a, uint32_t run);

/* Pin the calling thread to the actor's vCPU. */
int actor_pin(const struct actor *a);

/*
 * Put the calling thread before others (the one that answers the host, while load threads use
 * all vCPUs), or back among them.
 */
void thread_urgent(bool urgent);

/* Our own domid, learnt from the remote end of a channel to DOMID_SELF; -errno without Xen. */
int own_domid(struct actor *a);

/* Xen's version, major << 16 | minor; -errno without Xen. */
int xen_version(struct actor *a);

int raw_alloc_unbound(struct actor *a, uint16_t owner, uint16_t remote);
int raw_bind_interdomain(struct actor *a, uint16_t remote, uint32_t remote_port);
int raw_bind_virq(struct actor *a, uint32_t virq, uint32_t vcpu);
int raw_bind_ipi(struct actor *a, uint32_t vcpu);
int raw_close(struct actor *a, uint32_t port); /* -EPERM for ports the device has bound */
int raw_send(struct actor *a, uint32_t port);
int raw_send_unrecorded(struct actor *a, uint32_t port); /* to measure what recording costs */
int raw_status(struct actor *a, uint32_t port, struct channel_status *status); /* of our own */
int raw_status_of(struct actor *a, uint16_t owner, uint32_t port, struct channel_status *status);
int raw_bind_vcpu(struct actor *a, uint32_t port, uint32_t vcpu);
int raw_unmask(struct actor *a, uint32_t port);
int raw_set_priority(struct actor *a, uint32_t port, uint32_t priority);

/* SCHEDOP_poll of one port, with a time-out in the past. */
int raw_poll(struct actor *a, uint32_t port);

/*
 * The same of several ports.  The time-out is an absolute time of Xen's, in ns; 0: for ever.
 * Blocks the whole vCPU until a port is pending, any unmasked event arrives (Linux's tick is
 * one), or the time is over.
 */
int raw_poll_many(struct actor *a, const uint32_t *ports, unsigned count, uint64_t timeout);

/* A hypercall with the actor's argument as its second, with the actor's fault; not recorded. */
int raw_hypercall(struct actor *a, uint64_t number, uint64_t first);

/*
 * Press a debug key of Xen's, as `xl debug-keys` does.  Whatever Xen then prints raises
 * VIRQ_CON_RING.  Not recorded: it is no event channel operation.
 */
int raw_debug_key(struct actor *a, char key);

/* A handle is one open file of /dev/xen/evtchn; it is opened when first used. */
int device_bind_unbound(struct actor *a, unsigned handle, uint16_t remote);
int device_bind_interdomain(struct actor *a, unsigned handle, uint16_t remote, uint32_t remote_port);
int device_bind_virq(struct actor *a, unsigned handle, uint32_t virq);
int device_unbind(struct actor *a, unsigned handle, uint32_t port);
int device_notify(struct actor *a, unsigned handle, uint32_t port);
/* Writes ports back, which lets their next event through.  One record per port. */
int device_enable(struct actor *a, unsigned handle, const uint32_t *ports, unsigned count);
/*
 * Reads up to `room` events, waiting up to timeout_ms for the first.  One record per event.
 * Returns how many, 0 when none came.
 */
int device_read(struct actor *a, unsigned handle, uint32_t *ports, unsigned room, int timeout_ms);

#endif
