/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channels from inside a guest: the hypercall, and what is in the memory shared with Xen,
 * in the ABI that the domain uses now (2L, or FIFO once init_control has succeeded).
 */
#ifndef BARE_EVENTS_H
#define BARE_EVENTS_H

#include <stdbool.h>

#include "cpu.h"

#define MAX_PORTS 131072u
#define ARRAY_PAGES 128u
#define PORTS_PER_PAGE 1024u

/* What is wrong with the address that Xen gets for the argument. */
enum fault {
    FAULT_NONE,
    FAULT_IN, /* nothing is mapped there: Xen cannot read its argument */
    FAULT_OUT, /* Xen can read its argument, and cannot write to it */
};

/* One hypercall with an EVTCHNOP_*, and the argument that it has. */
int event_channel_op(uint64_t op, void *argument);
int event_channel_op_fault(uint64_t op, void *argument, enum fault fault);

/*
 * Operations after which other memory is shared.  Without good_frame Xen is given the number of a
 * frame that does not exist.
 */
int events_init_control(unsigned vcpu, uint32_t offset, bool good_frame, enum fault fault);
int events_expand_array(bool good_frame, enum fault fault);

/* EVTCHNOP_reset has succeeded: the ABI is 2L. */
void events_after_reset(void);

/* A port's bits in memory.  2L has no "linked". */
struct port_bits {
    bool pending, masked, linked;
};
struct port_bits events_port_bits(uint32_t port);
void events_mask(uint32_t port);

/* Write one of a port's bits in memory.  Returns whether the ABI has a place for that port. */
enum port_bit { BIT_PENDING, BIT_MASKED };
bool events_set_bit(uint32_t port, enum port_bit which, bool value);

/* 2L: clear both bitmaps, and what every vCPU was told of events. */
void events_clear_2l(void);

/* What Xen has told a vCPU. */
bool events_upcall(unsigned vcpu);
uint64_t events_selectors(unsigned vcpu); /* 2L: a bit for each word of the bitmap with events */
uint32_t events_ready(unsigned vcpu); /* FIFO: a bit for each priority with events */

/*
 * Take all events of `vcpu`, as an upcall handler does: FIFO's queues in the order of their
 * priorities, 2L's bitmap from its lowest bit on.  Returns how many ports there were; the first
 * `room` of them are in `ports`.
 */
unsigned events_handle_upcall(unsigned vcpu, uint32_t *ports, unsigned room);

#endif
