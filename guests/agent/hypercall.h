/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hypercalls from user space, through /dev/xen/privcmd. */
#ifndef AGENT_HYPERCALL_H
#define AGENT_HYPERCALL_H

#include <stdbool.h>
#include <stdint.h>

/* Open the device.  Returns 0, or -errno when there is no Xen to talk to. */
int hypercall_open(void);

/* Whether it is open. */
bool hypercall_ready(void);

/* Returns Xen's value >= 0, or -errno. */
int hypercall(uint64_t number, uint64_t first, void *second);

/* A page, all zero, for what Xen reads and writes; NULL when there is none. */
void *hypercall_page(void);

/* The number of the frame that holds such a page, as Xen counts our frames; 0: not known. */
uint64_t hypercall_frame(const void *page);

#endif
