/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the domain's kernel shows of event channels, and what makes Xen speak. */
#ifndef AGENT_KERNEL_H
#define AGENT_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/*
 * How often an event of /dev/xen/evtchn came up on each vCPU since the kernel started, from
 * /proc/interrupts.  Fills at most `room` counts; returns how many vCPUs there are, or -errno.
 */
int device_interrupts(uint64_t *counts, size_t room);

#endif
