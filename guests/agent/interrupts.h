/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the domain's kernel has counted of event channels. */
#ifndef AGENT_INTERRUPTS_H
#define AGENT_INTERRUPTS_H

#include <stddef.h>
#include <stdint.h>

/*
 * How many events of /dev/xen/evtchn each vCPU has got since the kernel started, from
 * /proc/interrupts.  Fills at most `room` counts; returns how many vCPUs there are, or -errno.
 */
int evtchn_interrupts(uint64_t *counts, size_t room);

#define ALL_VCPUS ~0u

/*
 * How many interrupts of any kind this vCPU, or all of them, have got since the kernel started,
 * from /proc/interrupts.  Returns 0 or -errno.
 */
int interrupts_of(unsigned vcpu, uint64_t *count);

#endif
