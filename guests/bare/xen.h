/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every guest must set up with Xen: its shared pages and its clock. */
#ifndef BARE_XEN_H
#define BARE_XEN_H

#include <stdint.h>

#include "cpu.h"

/* The memory that each vCPU shares with Xen. */
extern struct vcpu_info *const vcpu_info[VCPUS];

/* 2L's bitmaps: a bit for each port. */
#define BITMAP_WORDS 64u
#define BITMAP_PORTS (BITMAP_WORDS * 64)
enum bitmap { PENDING_BITMAP = 0, MASK_BITMAP = 1 };
volatile uint64_t *bitmap(enum bitmap which);

/* Call once, before anything else. */
void xen_start(void);

/* Ticks per second. */
uint64_t ticks_hz(void);

/* Xen's system time, in ns. */
uint64_t xen_time(void);

/* How many ns ago that was.  Xen may correct its time a little back meanwhile: then it is 0. */
static inline uint64_t ns_since(uint64_t begun)
{
    uint64_t now = xen_time();

    return now > begun ? now - begun : 0;
}

/* Sleep without any event channel; 0 ns only lets others run. */
void sleep_ns(uint64_t ns);

/* major << 16 | minor */
int xen_version(void);

#endif
