/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of a programme, what each has come to, and where two sides meet that make steps at the
 * same time: two vCPUs of the bare guest, or its vCPU 0 and the agent in dom0
 * (docs/agent-protocol.md, "Programmes").  harness/fuzz/programme.py has the same layouts and
 * numbers; a test compares them.
 */
#ifndef AGENT_STEPS_H
#define AGENT_STEPS_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

#include "record.h"

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
    STEP_MEET = 22, /* wait until the other side has come to as many meetings; then `value` loops */
    STEP_DELAY = 23, /* spin for `value` ns */
    STEP_CLOSE_ALL = 24, /* dom0: close all ports that it has opened in this programme */
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

#define SLOTS 256u
#define LONGEST_MEETING_NS 2000000000u /* then a side goes on alone */
#define PARTNER_COMES_NS 20000000000ull /* so long dom0 and the guest wait for each other at first */
#define MET_ALL UINT32_MAX /* this side has no more steps */

/*
 * A page that both sides see.  When Xen does not come back from a step, it is found in a dump of
 * the machine's memory (harness/fuzz/progress.py): by its first bytes, and the programme's number.
 */
struct meeting_place {
    char magic[8]; /* the bytes "EVTCHNPG" */
    uint64_t number; /* of the programme; never 0 */
    uint32_t at[2]; /* the step that each side is making */
    struct {
        alignas(64) uint64_t number; /* of the programme that this side has begun */
        uint32_t met; /* the meetings to which it has come */
    } side[2]; /* vCPU 0; and vCPU 1, or dom0 */
    alignas(64) uint32_t slots[SLOTS];
};

_Static_assert(sizeof(struct meeting_place) <= PAGE_BYTES, "the meeting place is one page");

static inline void meeting_begin(struct meeting_place *place, unsigned side, uint64_t number)
{
    __atomic_store_n(&place->side[side].met, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&place->side[side].number, number, __ATOMIC_RELEASE);
}

static inline void meeting_end(struct meeting_place *place, unsigned side)
{
    __atomic_store_n(&place->side[side].met, MET_ALL, __ATOMIC_SEQ_CST);
}

static inline void meeting_arrive(struct meeting_place *place, unsigned side, uint32_t met)
{
    __atomic_store_n(&place->side[side].met, met, __ATOMIC_SEQ_CST);
}

/* Whether the other side has begun this programme, and has come to so many meetings. */
static inline bool meeting_has(const struct meeting_place *place, unsigned other, uint64_t number,
                               uint32_t met)
{
    return __atomic_load_n(&place->side[other].number, __ATOMIC_ACQUIRE) == number &&
           __atomic_load_n(&place->side[other].met, __ATOMIC_SEQ_CST) >= met;
}

static inline uint32_t step_operand(const struct meeting_place *place, uint32_t word, bool of_slot)
{
    return of_slot ? __atomic_load_n(&place->slots[word % SLOTS], __ATOMIC_RELAXED) : word;
}

static inline void slot_set(struct meeting_place *place, unsigned slot, uint32_t port)
{
    if (slot)
        __atomic_store_n(&place->slots[slot % SLOTS], port, __ATOMIC_RELAXED);
}

static inline uint32_t status_word(uint32_t state, uint32_t vcpu, uint32_t remote)
{
    return (state & 0xff) | (vcpu & 0xff) << 8 | remote << 16;
}

/* The wait after a meeting. */
static inline void step_spin(uint32_t loops)
{
    while (loops--)
        __asm__ volatile("");
}

#endif
