/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PV guest manages its memory itself: Xen knows its pages by their machine frames, which are in a
 * list, and every mapping is made by a hypercall.
 */
#include "../agent/record.h"
#include "cpu.h"
#include "platform.h"
#include "start_info.h"

#define PRESENT 1u
#define WRITABLE 3u
#define IN_KERNEL 4u
#define CODE_SEGMENT 0xe033u
#define DATA_SEGMENT 0xe02bu

extern char second_stack_top[], second_vcpu_entry[];
struct start_info *start_info;

/* Xen has filled the hypercall page already, and there is no timer but Xen's. */
static void start(void)
{
}

static uint64_t frame(const volatile void *memory)
{
    return start_info->frames[(uintptr_t)memory / PAGE_BYTES];
}

static void map(void *page, uint64_t machine_frame, uint64_t access)
{
    void *entry = (void *)(machine_frame * PAGE_BYTES | access); /* of the page table */

    hypercall(HYPERCALL_UPDATE_VA_MAPPING, (uintptr_t)page, entry, (void *)UVMF_INVLPG);
}

static void map_shared_info(void *page)
{
    map(page, start_info->shared_info / PAGE_BYTES, WRITABLE);
}

static void map_grant_table(void *page)
{
    uint64_t list = 0;
    struct {
        uint16_t domid;
        uint32_t count;
        int16_t status;
        uint64_t *list;
    } setup = {DOMID_SELF, 1, 0, &list};

    hypercall(HYPERCALL_GRANT_TABLE_OP, GNTTABOP_SETUP_TABLE, &setup, (void *)1);
    map(page, list, WRITABLE);
}

static void *map_xenstore(uint32_t *port)
{
    static char page[PAGE_BYTES] PAGE_ALIGNED;

    *port = start_info->xenstore_port;
    map(page, start_info->xenstore_frame, WRITABLE);
    return page;
}

/* Maps two pages, because an argument may lie across their border. */
static void *read_only(const volatile void *memory)
{
    static char alias[2][PAGE_BYTES] PAGE_ALIGNED;
    const volatile char *first = memory;

    map(alias[0], frame(first), PRESENT);
    map(alias[1], frame(first + PAGE_BYTES), PRESENT);
    return alias[0] + (uintptr_t)memory % PAGE_BYTES;
}

/* `begin` is Xen's struct vcpu_guest_context; only what we set has a name of its own. */
static int start_second_vcpu(void)
{
    static struct {
        uint64_t fpu[64];
        uint64_t flags;
        struct {
            uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
            uint64_t error;
            uint64_t rip, cs, rflags, rsp, ss, es, ds, fs, gs;
        } user;
        uint64_t traps[512];
        uint64_t ldt[2];
        uint64_t gdt[17];
        uint64_t kernel_ss, kernel_sp;
        uint64_t control[8];
        uint64_t debug[8];
        uint64_t rest[16];
    } begin;
    int64_t error;

    /* Every vCPU of a PV guest has a timer of Xen's that ticks: VIRQ_TIMER would come of it. */
    for (uintptr_t vcpu = 0; vcpu < VCPUS; vcpu++)
        hypercall(HYPERCALL_VCPU_OP, VCPUOP_STOP_PERIODIC_TIMER, (void *)vcpu, NULL);

    begin.flags = IN_KERNEL;
    begin.user.rip = (uintptr_t)second_vcpu_entry;
    begin.user.rsp = begin.kernel_sp = (uintptr_t)second_stack_top;
    begin.user.cs = CODE_SEGMENT;
    begin.user.ss = begin.kernel_ss = DATA_SEGMENT;
    begin.control[3] = frame((void *)start_info->top_table) * PAGE_BYTES;
    error = hypercall(HYPERCALL_VCPU_OP, VCPUOP_INITIALISE, (void *)1, &begin);
    return (int)(error ? error : hypercall(HYPERCALL_VCPU_OP, VCPUOP_UP, (void *)1, NULL));
}

const struct platform pv = {
    .start = start,
    .start_second_vcpu = start_second_vcpu,
    .frame = frame,
    .read_only = read_only,
    .map_shared_info = map_shared_info,
    .map_grant_table = map_grant_table,
    .map_xenstore = map_xenstore,
};
