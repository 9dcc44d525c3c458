/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cpu.h"

#define FIRST_RAM 0x40000000ull
#define FOUR_GIB 0x100000000ull
#define PSCI_CPU_ON 0xc4000003ull

extern char second_vcpu_entry[];

const size_t bitmaps_offset = 48; /* behind the vcpu_info of one vCPU */

void cpu_start(void)
{
}

int64_t hypercall(enum hypercall number, uint64_t a, const volatile void *b, const volatile void *c)
{
    register uint64_t x0 __asm__("x0") = a;
    register uint64_t x1 __asm__("x1") = (uintptr_t)b;
    register uint64_t x2 __asm__("x2") = (uintptr_t)c;
    register uint64_t x16 __asm__("x16") = number;

    __asm__ volatile("hvc #0xea1" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x16)::"memory", "cc");
    return (int64_t)x0;
}

uint64_t ticks(void)
{
    uint64_t count;

    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(count)::"memory");
    return count;
}

uint64_t cpu_ticks_hz(const struct vcpu_info *info)
{
    uint64_t hz;

    (void)info;
    __asm__("mrs %0, cntfrq_el0" : "=r"(hz));
    return hz;
}

bool cpu_xen_time(const struct vcpu_info *info, uint64_t *now)
{
    (void)info;
    (void)now;
    return false;
}

int cpu_start_second_vcpu(void)
{
    register uint64_t x0 __asm__("x0") = PSCI_CPU_ON;
    register uint64_t x1 __asm__("x1") = 1;
    register uint64_t x2 __asm__("x2") = (uintptr_t)second_vcpu_entry;
    register uint64_t x3 __asm__("x3") = 0;

    __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"memory");
    return (int)x0;
}

/* start-arm64.S has mapped our memory a second time, read-only, at 4 GiB. */
void *cpu_read_only(const volatile void *memory)
{
    return (void *)((uintptr_t)memory - FIRST_RAM + FOUR_GIB);
}
