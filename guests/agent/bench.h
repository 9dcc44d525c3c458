/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AGENT_BENCH_H
#define AGENT_BENCH_H

#include "raw.h"

/* Sends per second with and without their being recorded. */
struct recording_cost {
    uint64_t recorded_per_s;
    uint64_t bare_per_s;
};

/* Measure for about `ms` milliseconds; forgets the actor's records.  Returns 0 or -errno. */
int bench_recording(struct actor *a, unsigned ms, struct recording_cost *cost);

#endif
