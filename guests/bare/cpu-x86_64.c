/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xen.h"

#define FOUR_GIB 0x100000000ull
#define INITIALISE 0u /* of VCPU_OP */
#define UP 1u
#define MODE_64B 1u
#define LOCAL_APIC 0xfee00000u
#define COMMAND 0x300u /* of the local APIC */
#define INIT_ALL_OTHERS 0xc4500u
#define TIMER 0x40u /* the 8254, its counter 0 */
#define TIMER_COMMAND 0x43u
#define ONCE 0x30u

extern const struct platform pv;
extern char hypercall_page[], top_table[], other_stack_top[], other_entry[];

const size_t bitmaps_at = 32 * 64; /* behind the vcpu_info of 32 vCPUs */
const struct platform *platform;
void *start_info; /* a PV guest's; Xen gives a PVH guest another thing */

static void cpuid(uint32_t leaf, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(0));
}

int64_t hypercall(enum hypercall number, uint64_t a, const volatile void *b, const volatile void *c)
{
    register int64_t result __asm__("rax");
    uint64_t first = a, second = (uintptr_t)b, third = (uintptr_t)c;

    __asm__ volatile("call *%[call]"
                     : "=a"(result), "+D"(first), "+S"(second), "+d"(third)
                     : [call] "r"(hypercall_page + number * 32)
                     : "memory", "rcx", "r8", "r9", "r10", "r11", "cc");
    return result;
}

uint64_t ticks(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}

/* Xen's CPUID leaves begin at the one that says XenVMMXenVMM; a PV guest has its page already. */
static void fill_hypercall_page(void)
{
    uint32_t base = 0x40000000, leaf[4];
    uint64_t page = (uintptr_t)hypercall_page;

    for (cpuid(base, leaf); leaf[1] != 0x566e6558 && base < 0x40010000; cpuid(base, leaf))
        base += 0x100;
    cpuid(base + 2, leaf);
    __asm__ volatile("wrmsr" ::"c"(leaf[1]), "a"((uint32_t)page), "d"((uint32_t)(page >> 32)));
}

static void out(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

/* An HVM guest's firmware leaves the timer ticking.  We take no interrupts, but each tick ends a
 * poll; so let it run out, once. */
static void stop_timer(void)
{
    out(TIMER_COMMAND, ONCE);
    out(TIMER, 0);
    out(TIMER, 0);
}

void cpu_start(void)
{
    platform = start_info ? &pv : &hvm;
    if (!start_info) {
        fill_hypercall_page();
        stop_timer();
    }
}

/* A tick is (2^shift * multiplier / 2^32) ns, says Xen to every vCPU. */
uint64_t ticks_hz(void)
{
    uint32_t multiplier = (uint32_t)vcpu_info[0]->time[3];
    int8_t shift = (int8_t)(vcpu_info[0]->time[3] >> 32);
    uint64_t hz = (1000000000ull << 32) / (multiplier ? multiplier : 1);

    return shift < 0 ? hz << -shift : hz >> shift;
}

int cpu_start_other(void)
{
    struct {
        uint32_t mode, pad;
        uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, rip, rflags;
        uint64_t cr0, cr3, cr4, efer;
        uint64_t rest[32];
    } begin = {
        .mode = MODE_64B,
        .rsp = (uintptr_t)other_stack_top,
        .rip = (uintptr_t)other_entry,
        .rflags = 2,
        .cr0 = 0x80010001,
        .cr3 = (uintptr_t)top_table,
        .cr4 = 0x20,
        .efer = 0x500,
    };
    int64_t error;

    /* An HVM guest's firmware has started every vCPU; INIT makes Xen forget that. */
    *(volatile uint32_t *)(uintptr_t)(LOCAL_APIC + COMMAND) = INIT_ALL_OTHERS;
    error = hypercall(VCPU_OP, INITIALISE, (void *)1, &begin);

    return (int)(error ? error : hypercall(VCPU_OP, UP, (void *)1, NULL));
}

void *cpu_read_only(const volatile void *memory)
{
    return (void *)((uintptr_t)memory + FOUR_GIB);
}
