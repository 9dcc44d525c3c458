/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hypercalls that no load makes: what a conformance test asks of Xen, and looks at.  None is
 * recorded.  All return Xen's value >= 0, or -errno.
 *
 * Linux would not survive the success of reset, init_control and expand_array: they are made
 * so that Xen refuses.
 */
#ifndef AGENT_PROBE_H
#define AGENT_PROBE_H

#include "hands.h"

/* q->a: domain.  -EPERM for our own. */
int probe_reset(struct actor *a, struct request *q);
int probe_reset_cont(struct actor *a, struct request *q);

/* q->a: vCPU, q->b: offset in a frame that does not exist. */
int probe_init_control(struct actor *a, struct request *q);

/* A frame that does not exist. */
int probe_expand_array(struct actor *a, struct request *q);

/* q->a: the number of a command; only those that Xen does not know (-EPERM for others). */
int probe_command(struct actor *a, struct request *q);

/*
 * dom0's, of domain q->a: have Xen watch it (q->b 1) or no longer (0).  Xen then has a channel of
 * its own there, whose port is returned, and sends an event to dom0 for each request of the guest.
 */
int probe_monitor(struct actor *a, struct request *q);

/*
 * Allocate unbound ports until Xen refuses, or q->a have been allocated.  Returns how many;
 * q->ports: the first, the last, and Xen's error number or 0.
 */
int probe_fill(struct actor *a, struct request *q);

/*
 * The ports of domain q->b from q->a on that are not closed, five words each in q->ports: port,
 * EVTCHNSTAT_* (PROBE_HIDDEN where Xen will not say), vCPU, remote, detail.  Returns the port
 * to go on with; q->a says whether there is one, else it is the domain's valid_evtchns.
 */
#define PROBE_WORDS 5u
#define PROBE_HIDDEN 255u
int probe_survey(struct actor *a, struct request *q);

#endif
