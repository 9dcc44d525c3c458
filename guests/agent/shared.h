/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages a domU shares with dom0, and the two rings of bytes in them.
 *
 * Both sides only look and sleep: no event channel tells them of new bytes, so that the
 * very thing under test cannot break what reports about it.
 */
#ifndef AGENT_SHARED_H
#define AGENT_SHARED_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"

#define SHARED_MAGIC 0x48534e4843545645ull /* the bytes "EVTCHNSH" */
#define SHARED_VERSION 1u
#define PAGES_TO_DOMU 4u
#define PAGES_TO_DOM0 64u
#define SHARED_PAGES (PAGES_TO_DOMU + PAGES_TO_DOM0)
#define XENSTORE_KEY "data/evtchn-agent"

/* Free-running counters of bytes; each is written by one side only. */
struct ring {
    alignas(64) uint32_t produced;
    alignas(64) uint32_t consumed;
};

/* The first shared page.  Who writes a field is said beside it. */
struct control {
    uint64_t magic; /* domU */
    uint32_t version; /* domU */
    uint32_t refs[SHARED_PAGES]; /* domU: grants of the ring pages, to the domU's ring first */
    alignas(64) uint32_t session; /* relay: counts the relays that have come, */
    uint32_t left; /* relay: and which of them has said goodbye */
    alignas(64) uint32_t accepted; /* domU: the session it talks to */
    uint32_t heartbeat; /* domU: changes as long as the agent lives */
    struct ring to_domu;
    struct ring to_dom0;
    alignas(64) uint32_t clock_wanted; /* domU: asks the relay to answer pings at once */
    alignas(64) uint32_t ping; /* domU */
    alignas(64) uint32_t pong; /* relay: the ping it answers, */
    uint64_t pong_ticks; /* relay: and dom0's counter then */
};

_Static_assert(sizeof(struct control) <= PAGE_BYTES, "the control structure is one page");

/* How long nothing has happened, to sleep ever longer. */
struct patience {
    unsigned idle;
};

/* Nanoseconds to sleep now: 0 at first, then ever more.  Naps cost CPU time that a load wants. */
static inline long patience_ns(struct patience *p)
{
    if (p->idle < 512)
        p->idle++;
    return p->idle < 64    ? 0
           : p->idle < 128 ? 100000
           : p->idle < 256 ? 500000
           : p->idle < 512 ? 2000000
                           : 5000000;
}

/* The contiguous part that can be written to, or read from, now. */
static inline size_t ring_room(const struct ring *r, size_t size, size_t *at)
{
    uint32_t produced = r->produced;
    uint32_t used = produced - __atomic_load_n(&r->consumed, __ATOMIC_ACQUIRE);
    size_t room = used > size ? 0 : size - used;

    *at = produced & (size - 1);
    return room < size - *at ? room : size - *at;
}

static inline size_t ring_filled(const struct ring *r, size_t size, size_t *at)
{
    uint32_t consumed = r->consumed;
    uint32_t used = __atomic_load_n(&r->produced, __ATOMIC_ACQUIRE) - consumed;

    *at = consumed & (size - 1);
    if (used > size)
        used = 0; /* the other side is mad */
    return used < size - *at ? used : size - *at;
}

static inline void ring_produce(struct ring *r, size_t count)
{
    __atomic_store_n(&r->produced, r->produced + (uint32_t)count, __ATOMIC_RELEASE);
}

static inline void ring_consume(struct ring *r, size_t count)
{
    __atomic_store_n(&r->consumed, r->consumed + (uint32_t)count, __ATOMIC_RELEASE);
}

#endif
