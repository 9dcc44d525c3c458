/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The records of one thread, in memory that is allocated and locked before it begins. */
#ifndef AGENT_BUFFER_H
#define AGENT_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "record.h"
#include "ticks.h"

struct buffer {
    struct page *pages;
    size_t page_count;
    struct record *next; /* of the next operation */
    struct record *end;
    struct record spare; /* is used when there is no room for a record */
    uint64_t done; /* operations that have returned */
    uint64_t lost; /* of these, those that there was no room for */
};

/*
 * Allocate room for `records` records, and have Linux lock and populate it.  Returns 0 or -errno.
 * buffer_restart() has to be called next.
 */
int buffer_create(struct buffer *b, size_t records);

void buffer_destroy(struct buffer *b);

/* Clear all records, and write the page headers. */
void buffer_restart(struct buffer *b, const struct page_header *head);

/* How many pages hold a record; one in flight counts. */
size_t buffer_used_pages(const struct buffer *b);

/* How many more records there is room for. */
size_t buffer_room(const struct buffer *b);

/* Record that an operation begins: without a system call, a lock or an allocation. */
static inline struct record *record_call(struct buffer *b, enum op op, enum via via, uint32_t port,
                                         uint32_t arg, uint16_t cpu)
{
    struct record *r = b->next < b->end ? b->next : &b->spare;

    r->port = port;
    r->arg = arg;
    r->cpu = cpu;
    r->op = (uint8_t)op;
    r->via = (uint8_t)via;
    __atomic_store_n(&r->call, ticks(), __ATOMIC_RELEASE);
    return r;
}

/* Record how it has ended. */
static inline void record_return(struct buffer *b, struct record *r, int32_t result)
{
    uint64_t ret = ticks();

    r->result = result;
    __atomic_store_n(&r->ret, ret, __ATOMIC_RELEASE);
    if (r == &b->spare) {
        __atomic_store_n(&b->lost, b->lost + 1, __ATOMIC_RELAXED);
    } else {
        struct record *next = r + 1;
        if (((uintptr_t)next & (PAGE_BYTES - 1)) == 0)
            next++; /* the next page's header */
        __atomic_store_n(&b->next, next, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&b->done, b->done + 1, __ATOMIC_RELAXED);
}

/* Record an event that a read() has returned which began at `call`. */
static inline void record_event(struct buffer *b, uint64_t call, uint32_t port, uint16_t cpu)
{
    struct record *r = record_call(b, OP_RECV, VIA_DEVICE, port, 0, cpu);

    r->call = call;
    record_return(b, r, 0);
}

/* The operation in flight, or NULL.  Another thread may call this. */
static inline const struct record *record_in_flight(const struct buffer *b)
{
    const struct record *r = __atomic_load_n(&b->next, __ATOMIC_ACQUIRE);

    if (r >= b->end || !__atomic_load_n(&r->call, __ATOMIC_ACQUIRE))
        return NULL;
    return __atomic_load_n(&r->ret, __ATOMIC_ACQUIRE) ? NULL : r;
}

#endif
