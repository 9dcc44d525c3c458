/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ticks.h"

#include <time.h>

#if defined(__aarch64__)

void ticks_start(void)
{
}

uint64_t ticks_hz(void)
{
    uint64_t hz;
    __asm__("mrs %0, cntfrq_el0" : "=r"(hz));
    return hz;
}

#else

struct instant {
    uint64_t ticks;
    uint64_t ns;
};

static struct instant start;

/* Read counter and clock at the same moment: of several tries, take the quickest. */
static struct instant read_both(void)
{
    struct instant best = {0, 0};
    uint64_t width = UINT64_MAX;

    for (int try = 0; try < 20; try++) {
        struct timespec t;
        uint64_t before = ticks();
        clock_gettime(CLOCK_MONOTONIC_RAW, &t);
        uint64_t after = ticks();
        if (after - before < width) {
            width = after - before;
            best.ticks = before + width / 2;
            best.ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        }
    }
    return best;
}

void ticks_start(void)
{
    start = read_both();
}

uint64_t ticks_hz(void)
{
    struct instant end = read_both();
    while (end.ns - start.ns < 50000000u) {
        struct timespec nap = {0, 10000000};
        nanosleep(&nap, NULL);
        end = read_both();
    }
    return (uint64_t)((double)(end.ticks - start.ticks) * 1e9 / (double)(end.ns - start.ns) + 0.5);
}

#endif
