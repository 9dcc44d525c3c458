/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channel operations by hypercall.  Each is recorded, unless a comment says it is not, and
 * returns what Xen said: a value >= 0 (the new port where there is one), or -errno.
 */
#ifndef AGENT_RAW_H
#define AGENT_RAW_H

#include "actor.h"

/* What EVTCHNOP_status tells. */
struct channel_status {
    uint32_t state; /* EVTCHNSTAT_* */
    uint32_t vcpu;
    uint32_t remote; /* domid, of unbound and interdomain channels */
    uint32_t detail; /* remote port, virq or pirq */
};

/* Our own domid, which is the remote end of a channel to DOMID_SELF; -ENODEV without Xen. */
int own_domid(struct actor *a);

/* Xen's version, major << 16 | minor; -ENODEV without Xen.  Not recorded. */
int xen_version(struct actor *a);

int raw_alloc_unbound(struct actor *a, uint16_t owner, uint16_t remote);
int raw_bind_interdomain(struct actor *a, uint16_t remote, uint32_t remote_port);
int raw_bind_virq(struct actor *a, uint32_t virq, uint32_t vcpu);
int raw_bind_ipi(struct actor *a, uint32_t vcpu);
int raw_close(struct actor *a, uint32_t port); /* -EPERM for a port of the device */
int raw_send(struct actor *a, uint32_t port);
int raw_send_unrecorded(struct actor *a, uint32_t port); /* for bench and race, which want speed */
int raw_status(struct actor *a, uint32_t port, struct channel_status *status); /* of our domain */
int raw_status_of(struct actor *a, uint16_t owner, uint32_t port, struct channel_status *status);
int raw_bind_vcpu(struct actor *a, uint32_t port, uint32_t vcpu);
int raw_unmask(struct actor *a, uint32_t port);
int raw_set_priority(struct actor *a, uint32_t port, uint32_t priority);

/* SCHEDOP_poll of one port, with a time-out in the past. */
int raw_poll(struct actor *a, uint32_t port);

/*
 * SCHEDOP_poll of several ports.  The time-out is an absolute time of Xen's, in ns; 0: none.
 * The whole vCPU sleeps until one of the ports is pending, any unmasked event comes to it
 * (Linux's tick is one), or the time is over.
 */
int raw_poll_many(struct actor *a, const uint32_t *ports, unsigned count, uint64_t timeout);

/*
 * Press a debug key of Xen, as `xl debug-keys` does.  What Xen then prints raises VIRQ_CON_RING.
 * Not recorded.
 */
int raw_debug_key(struct actor *a, char key);

#endif
