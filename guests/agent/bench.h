/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AGENT_BENCH_H
#define AGENT_BENCH_H

#include "raw.h"

/* What recording costs: sends per second with it and without it. */
struct recording_cost {
    uint64_t recorded_per_s;
    uint64_t bare_per_s;
};

/* Measure for about `ms` milliseconds; the actor's records are lost.  Returns 0 or -errno. */
int bench_recording(struct actor *a, unsigned ms, struct recording_cost *cost);

#endif
