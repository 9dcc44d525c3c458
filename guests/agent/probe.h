/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hypercalls that no load makes: those of conformance tests.  The hypercalls themselves are not
 * recorded.  All functions return Xen's value >= 0, or -errno.
 *
 * Linux would not survive it if reset, init_control or expand_array succeeded: they are made such
 * that Xen refuses them.  Where nobody needs Linux's events any more, a frame can be given.
 */
#ifndef AGENT_PROBE_H
#define AGENT_PROBE_H

#include "vcpu_worker.h"

int probe_bind_pirq(struct actor *a, struct job *job); /* job->a: pirq, job->b: flags */
int probe_irq_unmask_notify(struct actor *a, struct job *job);
int probe_dump_irqs(struct actor *a, struct job *job); /* debug key i */

/* job->a: another domain.  -EPERM for our own. */
int probe_reset(struct actor *a, struct job *job);
int probe_reset_cont(struct actor *a, struct job *job);

/*
 * The number of a frame of ours, for job->frame; 0 if it is not known.  Nobody frees it, because Xen
 * may use it from now on.
 */
uint64_t probe_own_frame(void);

/* job->a: vCPU, job->b: offset in the frame job->frame; without one, in one that does not exist. */
int probe_init_control(struct actor *a, struct job *job);

/* With the frame job->frame; without one, with one that does not exist. */
int probe_expand_array(struct actor *a, struct job *job);

/* job->a: the number of an EVTCHNOP_* that Xen does not know (-EPERM for one that it knows). */
int probe_unknown_command(struct actor *a, struct job *job);

/*
 * Only in dom0: have Xen watch domain job->a for vm_event requests (job->b 1), or no longer (0).
 * While it watches, Xen has a channel of its own in that domain, to which dom0 may bind; for each
 * request of the guest Xen sends an event on it.  Returns the channel's port.
 */
int probe_monitor(struct actor *a, struct job *job);

/*
 * Allocate unbound ports until Xen refuses, or job->a have been allocated.  Returns how many;
 * job->numbers: the first port, the last port, and Xen's error number or 0.
 */
int probe_fill(struct actor *a, struct job *job);

/*
 * The ports of domain job->b that are not closed, beginning with port job->a.  For each of them
 * job->numbers has five words: port, EVTCHNSTAT_* (PORT_HIDDEN where Xen does not tell), vCPU,
 * remote, detail.  If there may be more ports, job->a is 1 and the next one is returned; else
 * job->a is 0 and the domain's number of ports (valid_evtchns) is returned.
 */
#define WORDS_PER_PORT 5u
#define PORT_HIDDEN 255u
int probe_list_ports(struct actor *a, struct job *job);

#endif
