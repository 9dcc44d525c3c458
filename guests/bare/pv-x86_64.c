/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PV guest manages its memory itself: Xen knows machine frames, which a list translates to,
 * and every mapping is made by a hypercall.
 */
#include "xen.h"

#define UPDATE_VA_MAPPING 14
#define GRANT_TABLE_OP 20
#define SETUP_TABLE 2u
#define FLUSH_ONE 2ull /* UVMF_INVLPG */
#define PRESENT 1u
#define WRITABLE 3u
#define INITIALISE 0u /* of VCPU_OP */
#define UP 1u
#define STOP_PERIODIC_TIMER 7u
#define IN_KERNEL 4u
#define CODE_SEGMENT 0xe033u
#define DATA_SEGMENT 0xe02bu

extern char other_stack_top[], other_entry[];
extern struct {
    char magic[32];
    uint64_t pages;
    uint64_t shared_info; /* machine address */
    uint32_t flags;
    uint64_t xenstore_frame;
    uint32_t xenstore_port;
    uint64_t console_frame;
    uint32_t console_port;
    uint64_t top_table; /* virtual address */
    uint64_t tables;
    uint64_t *frames; /* by our own frame number */
} *start_info;

static uint64_t frame(const volatile void *memory)
{
    return start_info->frames[(uintptr_t)memory / PAGE_BYTES];
}

static void map(void *page, uint64_t machine_frame, uint64_t access)
{
    hypercall(UPDATE_VA_MAPPING, (uintptr_t)page, (void *)(machine_frame * PAGE_BYTES | access),
              (void *)FLUSH_ONE);
}

static void map_shared_info(void *page)
{
    map(page, start_info->shared_info / PAGE_BYTES, WRITABLE);
}

static void map_grants(void *page)
{
    uint64_t list = 0;
    struct {
        uint16_t domid;
        uint32_t count;
        int16_t status;
        uint64_t *list;
    } setup = {DOMID_SELF, 1, 0, &list};

    hypercall(GRANT_TABLE_OP, SETUP_TABLE, &setup, (void *)1);
    map(page, list, WRITABLE);
}

static void *map_xenstore(uint32_t *port)
{
    static char page[PAGE_BYTES] PAGE;

    *port = start_info->xenstore_port;
    map(page, start_info->xenstore_frame, WRITABLE);
    return page;
}

/* An argument may lie across two pages. */
static void *read_only(const volatile void *memory)
{
    static char alias[2][PAGE_BYTES] PAGE;
    const volatile char *first = memory;

    map(alias[0], frame(first), PRESENT);
    map(alias[1], frame(first + PAGE_BYTES), PRESENT);
    return alias[0] + (uintptr_t)memory % PAGE_BYTES;
}

/* What of Xen's vcpu_guest_context is not zero, by its place. */
static int start_other(void)
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

    /* Xen gives every vCPU of a PV guest one, which sends VIRQ_TIMER to whoever binds that. */
    for (uintptr_t vcpu = 0; vcpu < VCPUS; vcpu++)
        hypercall(VCPU_OP, STOP_PERIODIC_TIMER, (void *)vcpu, NULL);

    begin.flags = IN_KERNEL;
    begin.user.rip = (uintptr_t)other_entry;
    begin.user.rsp = begin.kernel_sp = (uintptr_t)other_stack_top;
    begin.user.cs = CODE_SEGMENT;
    begin.user.ss = begin.kernel_ss = DATA_SEGMENT;
    begin.control[3] = frame((void *)start_info->top_table) * PAGE_BYTES;
    error = hypercall(VCPU_OP, INITIALISE, (void *)1, &begin);
    return (int)(error ? error : hypercall(VCPU_OP, UP, (void *)1, NULL));
}

const struct platform pv = {
    frame, read_only, map_shared_info, map_grants, map_xenstore, start_other,
};
