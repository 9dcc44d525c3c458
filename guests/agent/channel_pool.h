/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channels that all load threads of an agent share, and race on.
 *
 * A channel of the pool has up to two ports here: one that was allocated (alloc_unbound), for
 * somebody to bind to, and one that was bound (bind_interdomain, bind_virq, bind_ipi).  Any thread
 * may use either at any time.  It may find that another thread has just closed the port, or closed
 * it and been given its number again: that is what the load is for.
 *
 * Two rules protect Linux, whose drivers get port numbers from the same allocator.  A port is
 * closed only by the thread that has removed it from its channel.  And while a thread changes the
 * mask, the vCPU or the priority of a port, it pins it there: it cannot be closed, so its number
 * cannot belong to a driver by then.
 */
#ifndef AGENT_CHANNEL_POOL_H
#define AGENT_CHANNEL_POOL_H

#include "actor.h"
#include "workload.h"

#define MAX_CHANNELS 256u
#define MAX_PEERS 8u
#define MAX_PEER_PORTS 64u

/* How many channels of each kind. */
struct pool_plan {
    unsigned raw; /* both ports here, made by hypercalls */
    unsigned device; /* both ports here, made by /dev/xen/evtchn */
    unsigned cross; /* per peer, and of each: raw or device, port allocated or port bound here */
    unsigned virq; /* raw VIRQ, device VIRQ, IPI: so many of each */
    unsigned peers;
    uint16_t peer[MAX_PEERS]; /* domids */
};

/* Choose the channels, without a port yet.  Returns how many there are, or -E2BIG. */
int pool_lay_out(const struct pool_plan *plan, uint16_t own_domid, unsigned vcpus);

/* Allocate every port that somebody is to bind to.  Returns 0 or the first error. */
int pool_allocate(struct actor *a);

/* The ports that `peer` may bind to.  Returns how many. */
unsigned pool_ports_for(uint16_t peer, uint32_t *ports);

/* The ports of `peer` that we may bind to.  Returns 0, or -ENOENT when it is no peer. */
int pool_set_peer_ports(uint16_t peer, const uint32_t *ports, unsigned count);

/* Carry out one step of a workload. */
void pool_step(struct actor *a, const struct step *step);

/* Read events until none has come for quiet_ms.  Returns how many came. */
int pool_drain(struct actor *a, unsigned quiet_ms);

#endif
