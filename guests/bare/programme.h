/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programmes: thousands of operations that the vCPUs make without a word from outside, and what
 * each has come to (docs/agent-protocol.md, "Programmes").  harness/fuzz/programme.py has the same
 * layouts and numbers; a test compares them.
 */
#ifndef BARE_PROGRAMME_H
#define BARE_PROGRAMME_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

#define MAX_STEPS 16384u /* of one vCPU */

/* What a step does: the EVTCHNOP of that number, or one of these. */
enum what {
    STEP_UNKNOWN_COMMAND = 15, /* EVTCHNOP `value` */
    STEP_POLL = 16, /* SCHEDOP_poll of `number` ports: `port`, then `value` again and again */
    STEP_BEGIN = 17, /* reset, and clear what 2L shares and the slots */
    STEP_TAKE = 18, /* take the events of vCPU `number` as an upcall handler does */
    STEP_LOOK = 19, /* nothing: only look at the bits of `port` */
    STEP_SET_BIT = 20, /* of `port`, in shared memory: bit `number` (enum port_bit) */
    STEP_CLEAR_BIT = 21,
    STEP_MEET = 22, /* wait until the other vCPU has come to as many meetings; then `value` loops */
    STEP_DELAY = 23, /* spin for `value` ns */
};

enum step_flags {
    STEP_PORT_OF_SLOT = 1, /* `port` is the number of a slot that has the port */
    STEP_VALUE_OF_SLOT = 2,
    STEP_FAULT_IN = 4,
    STEP_FAULT_OUT = 8,
    STEP_BAD_FRAME = 16, /* init_control, expand_array: of a frame that does not exist */
    STEP_PAST = 32, /* poll: the time-out is in the past */
    STEP_PATIENT = 64, /* poll: it gives up much later */
};

struct step {
    uint8_t what;
    uint8_t flags;
    uint8_t slot; /* that gets the new port; 0: none */
    uint8_t number;
    uint32_t port;
    uint32_t value;
};

/* What a step has come to. */
enum seen_bits {
    SEEN_PENDING = 1, /* of `port`, in shared memory */
    SEEN_MASKED = 2,
    SEEN_LINKED = 4,
    SEEN_SLEPT = 8, /* a poll that lasted half of the time after which it gives up, or longer */
    SEEN_UPCALL = 16, /* vCPU 0; the bit above it: vCPU 1 */
};

struct seen {
    int32_t result; /* 0, the new port, how many events were taken, or -errno */
    uint32_t bits; /* enum seen_bits */
    uint32_t told; /* status: state | vCPU << 8 | remote << 16; else of each vCPU 16 selectors
                      (2L) or priorities (FIFO) */
    uint32_t detail; /* status: its detail; events taken: the sum of their ports' marks */
};

/* The same with the time and with what was in the slots, where vCPUs run at once. */
struct timed_seen {
    struct seen seen;
    uint64_t call, ret; /* ticks */
    uint32_t port, value;
};

/* The steps of that vCPU, to be filled in by the caller. */
struct step *programme_steps(unsigned vcpu);

/*
 * Have each vCPU make its first counts[vcpu] steps, both at once if both have any.  Returns the
 * address of what they have seen, vCPU 0's first: struct seen, or with `timed` struct timed_seen.
 * `number` is found in memory with how far they have come, should they not return.
 */
const void *programme_run(uint64_t number, const unsigned counts[VCPUS], bool timed);

#endif
