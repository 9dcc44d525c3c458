/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cpu.h"

#define FOUR_GIB 0x100000000ull
#define MODE_64B 1u
#define LOCAL_APIC 0xfee00000u
#define APIC_COMMAND 0x300u
#define INIT_ALL_OTHERS 0xc4500u
#define TIMER 0x40u /* the 8254's counter 0 */
#define TIMER_COMMAND 0x43u
#define TIMER_ONCE 0x30u

extern char hypercall_page[], top_table[], second_stack_top[], second_vcpu_entry[];

const size_t bitmaps_offset = 32 * 64; /* behind the vcpu_info of 32 vCPUs */

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

/* Have Xen fill the page.  Its CPUID leaves begin at the one that says XenVMMXenVMM. */
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

/*
 * An HVM guest's firmware leaves the timer ticking.  We take no interrupts, but each tick ends a
 * SCHEDOP_poll.  Let the timer run out once more, and not again.
 */
static void stop_timer(void)
{
    out(TIMER_COMMAND, TIMER_ONCE);
    out(TIMER, 0);
    out(TIMER, 0);
}

void cpu_start(void)
{
    fill_hypercall_page();
    stop_timer();
}

/* Xen tells every vCPU how long a tick is: (2^shift * multiplier / 2^32) ns. */
uint64_t cpu_ticks_hz(const struct vcpu_info *info)
{
    uint32_t multiplier = (uint32_t)info->time[3];
    int8_t shift = (int8_t)(info->time[3] >> 32);
    uint64_t hz = (1000000000ull << 32) / (multiplier ? multiplier : 1);

    return shift < 0 ? hz << -shift : hz >> shift;
}

/*
 * Xen writes there, whenever it gives the vCPU a CPU and again each second, what its time was at a
 * count of the TSC.  It is odd while it writes.  How long a tick is changes a little each time: so
 * nothing may be concluded from the counts since the start.  Where vCPU 1 asks, the CPU that it is on
 * may count a little behind the one whose count Xen has written: then it is that time.
 */
bool cpu_xen_time(const struct vcpu_info *info, uint64_t *now)
{
    volatile const uint64_t *time = info->time;
    uint32_t version, multiplier;
    uint64_t count, then;
    int8_t shift;

    do {
        version = (uint32_t)time[0];
        __asm__ volatile("" ::: "memory");
        count = ticks();
        count = count > time[1] ? count - time[1] : 0;
        then = time[2];
        multiplier = (uint32_t)time[3];
        shift = (int8_t)(time[3] >> 32);
        __asm__ volatile("" ::: "memory");
    } while (version % 2 != 0 || version != (uint32_t)time[0]);
    count = shift < 0 ? count >> -shift : count << shift;
    *now = then + (uint64_t)((unsigned __int128)count * multiplier >> 32);
    return version != 0;
}

int cpu_start_second_vcpu(void)
{
    struct {
        uint32_t mode, pad;
        uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, rip, rflags;
        uint64_t cr0, cr3, cr4, efer;
        uint64_t rest[32];
    } begin = {
        .mode = MODE_64B,
        .rsp = (uintptr_t)second_stack_top,
        .rip = (uintptr_t)second_vcpu_entry,
        .rflags = 2,
        .cr0 = 0x80010001,
        .cr3 = (uintptr_t)top_table,
        .cr4 = 0x20,
        .efer = 0x500,
    };
    int64_t error;

    /* An HVM guest's firmware has started every vCPU already; INIT stops them again. */
    *(volatile uint32_t *)(uintptr_t)(LOCAL_APIC + APIC_COMMAND) = INIT_ALL_OTHERS;
    error = hypercall(HYPERCALL_VCPU_OP, VCPUOP_INITIALISE, (void *)1, &begin);

    return (int)(error ? error : hypercall(HYPERCALL_VCPU_OP, VCPUOP_UP, (void *)1, NULL));
}

/* start-x86_64.S has mapped the first GiB a second time, read-only, at 4 GiB. */
void *cpu_read_only(const volatile void *memory)
{
    return (void *)((uintptr_t)memory + FOUR_GIB);
}
