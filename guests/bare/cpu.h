/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What depends on the architecture: cpu-*.c and start-*.S. */
#ifndef BARE_CPU_H
#define BARE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../agent/xen_abi.h"

#define PAGE_ALIGNED __attribute__((aligned(4096)))
#define VCPUS 2u

/* An address at which nothing is mapped. */
#define NOT_MAPPED ((void *)0x7000000000ull)

/* Error numbers that Xen answers with (as -errno), and that we answer with ourselves. */
enum errno {
    EPERM = 1,
    EFAULT = 14,
    EINVAL = 22,
    ENOSYS = 38,
    EOPNOTSUPP = 95,
    ETIMEDOUT = 110,
};

/* Returns Xen's value >= 0, or -errno. */
int64_t hypercall(enum hypercall number, uint64_t a, const volatile void *b, const volatile void *c);

/* What a vCPU shares with Xen (Xen's struct vcpu_info). */
struct vcpu_info {
    uint8_t upcall_pending;
    uint8_t upcall_mask;
    uint64_t pending_sel; /* 2L: a bit for each word of the pending bitmap that has events */
    uint64_t arch[2];
    uint64_t time[4]; /* x86: Xen's struct vcpu_time_info, read by cpu_xen_time() */
};

/* Where in the shared info page 2L's two bitmaps begin. */
extern const size_t bitmaps_offset;

/* The CPU's counter, and how often it counts in a second. */
uint64_t ticks(void);
uint64_t cpu_ticks_hz(const struct vcpu_info *info);

/* Stores Xen's time, in ns, as Xen tells it in info (x86); returns false where it does not. */
bool cpu_xen_time(const struct vcpu_info *info, uint64_t *now);

/* What a guest of hvm.c needs: see platform.h. */
void cpu_start(void);
int cpu_start_second_vcpu(void);
void *cpu_read_only(const volatile void *memory);

#endif
