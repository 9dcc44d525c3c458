/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channels that the load threads of an agent share and race on.
 *
 * A slot has up to two ports here: an anchor (an unbound port that somebody may bind to) and
 * an end (bound to an anchor, a VIRQ or an IPI).  Any thread may use either at any time; some
 * hit a port that another thread has just closed, or closed and been given again, which is
 * the point.  Two rules keep Linux out of harm's way: only who took a port out of its slot
 * closes it, and what changes a port's mask, vCPU or priority holds it meanwhile, so that the
 * number cannot by then belong to a driver.
 */
#ifndef AGENT_SLOTS_H
#define AGENT_SLOTS_H

#include "actor.h"
#include "programme.h"

#define MAX_SLOTS 256u
#define MAX_PEERS 8u
#define MAX_ANCHORS 64u

/* How many slots of each kind. */
struct slot_plan {
    unsigned raw; /* both ends here, by hypercalls */
    unsigned device; /* both ends here, by /dev/xen/evtchn */
    unsigned cross; /* per peer and way: anchors for the peer, and as many ends of the peer's */
    unsigned virq; /* raw VIRQ, device VIRQ, IPI: so many of each */
    unsigned peers;
    uint16_t peer[MAX_PEERS];
};

/* Lay the slots out, all ports closed.  Returns how many there are, or -E2BIG. */
int slots_lay_out(const struct slot_plan *plan, uint16_t own_domid, unsigned vcpus);

/* Allocate every anchor.  Returns 0 or the first error. */
int slots_anchor(struct actor *a);

/* The anchors that `peer` may bind to. */
unsigned slots_anchors(uint16_t peer, uint32_t *ports);

/* The ports that we may bind to in `peer`.  Returns 0, or -ENOENT when it is no peer. */
int slots_peer(uint16_t peer, const uint32_t *ports, unsigned count);

/* Do one step. */
void slots_step(struct actor *a, const struct step *step);

/* Read events until none has come for quiet_ms.  Returns how many came. */
int slots_drain(struct actor *a, unsigned quiet_ms);

#endif
