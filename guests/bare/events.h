/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channels from inside a guest: the hypercall, and what is in memory shared with Xen,
 * in whichever ABI the domain uses now.
 */
#ifndef BARE_EVENTS_H
#define BARE_EVENTS_H

#include "xen.h"

#define MAX_PORTS 131072u
#define ARRAY_PAGES 128u

enum fault { FAULT_NONE, FAULT_IN, FAULT_OUT };

/* Whichever argument an operation has; Xen gets its address, or with a fault another one. */
int event_channel_op(enum event_channel_op op, void *argument);
int event_channel_op_fault(uint64_t op, void *argument, enum fault fault);

/* Operations after which the guest's memory means something else. */
int events_init_control(unsigned vcpu, uint32_t offset, bool good_frame, enum fault fault);
int events_expand_array(bool good_frame, enum fault fault);
void events_after_reset(void);

/* A port's bits, as the guest sees them. */
struct word {
    bool pending, masked, linked;
};
bool events_fifo(void);
struct word events_word(uint32_t port);
void events_mask(uint32_t port);
void events_unmask(uint32_t port); /* in memory only: nothing is delivered */

void events_wipe(void); /* 2L: nothing is pending or masked, and no vCPU knows of any event */

/* What Xen has told a vCPU. */
bool events_upcall(unsigned vcpu);
uint64_t events_selectors(unsigned vcpu); /* 2L: words of the bitmap with news */
uint32_t events_ready(unsigned vcpu); /* FIFO: priorities with events */

/*
 * Take everything that has come up on `vcpu`, as an upcall handler does: FIFO's queues in the
 * order of their priorities, 2L's bitmap from the bottom.  Returns how many ports there were;
 * the first `room` of them are in `ports`.
 */
unsigned events_take(unsigned vcpu, uint32_t *ports, unsigned room);

#endif
