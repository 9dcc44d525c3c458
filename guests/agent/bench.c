/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the same sends with recording and without it, in short turns, one after the other.  The
 * median turns are compared, because a busy machine now and then stops the vCPU for much longer
 * than a turn takes.
 */
#include "bench.h"

#include <stdlib.h>

#include "ticks.h"

#define SENDS 32u /* in a turn */
#define MAX_TURNS 4096u

static uint64_t recorded[MAX_TURNS], bare[MAX_TURNS];

static uint64_t take_turn(struct actor *a, uint32_t port,
                          int (*send)(struct actor *a, uint32_t port))
{
    uint64_t begin = ticks();

    for (unsigned i = 0; i < SENDS; i++)
        send(a, port);
    return ticks() - begin;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t rate(uint64_t *turns, unsigned count, uint64_t hz)
{
    qsort(turns, count, sizeof(*turns), by_value);
    return SENDS * hz / turns[count / 2];
}

int bench_recording(struct actor *a, unsigned ms, struct recording_cost *cost)
{
    uint64_t hz = ticks_hz(), begin;
    int allocated = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);
    int bound = allocated < 0 ? allocated : raw_bind_interdomain(a, DOMID_SELF, (uint32_t)allocated);
    unsigned turns = 0;

    if (bound < 0)
        return bound;
    begin = ticks();
    do {
        if (buffer_room(&a->log) < SENDS)
            actor_restart(a, 0);
        recorded[turns] = take_turn(a, (uint32_t)bound, raw_send);
        bare[turns] = take_turn(a, (uint32_t)bound, raw_send_unrecorded);
    } while (++turns < MAX_TURNS && ticks() - begin < hz / 1000 * ms);
    raw_close(a, (uint32_t)bound);
    raw_close(a, (uint32_t)allocated);
    cost->recorded_per_s = rate(recorded, turns, hz);
    cost->bare_per_s = rate(bare, turns, hz);
    return 0;
}
