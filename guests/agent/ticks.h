/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CPU's counter.  Reading it is no system call, and is ordered with memory accesses. */
#ifndef AGENT_TICKS_H
#define AGENT_TICKS_H

#include <stdint.h>

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
    uint64_t value;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(value) : : "memory");
    return value;
#else
#error "no CPU counter known for this architecture"
#endif
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause" : : : "memory");
#else
    __asm__ volatile("yield" : : : "memory");
#endif
}

/* Call once when the agent starts; ticks_hz() is the more exact the longer ago that was. */
void ticks_start(void);

/*
 * Ticks per second.  On arm64 the CPU tells it.  On x86-64 it is measured with CLOCK_MONOTONIC_RAW
 * since ticks_start(), for at least 50 ms.
 */
uint64_t ticks_hz(void);

#endif
