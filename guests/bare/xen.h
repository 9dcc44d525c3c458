/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Xen's interface as far as this guest uses it: numbers, layouts, and how a hypercall is made.
 */
#ifndef BARE_XEN_H
#define BARE_XEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define PAGE __attribute__((aligned(PAGE_BYTES)))
#define VCPUS 2u

enum errno { EPERM = 1, ENOENT = 2, EFAULT = 14, EINVAL = 22, ENOSYS = 38, EMSGSIZE = 90 };

enum hypercall {
    MEMORY_OP = 12,
    XEN_VERSION = 17,
    VCPU_OP = 24,
    SCHED_OP = 29,
    EVENT_CHANNEL_OP = 32,
    HVM_OP = 34,
};

#define DOMID_SELF 0x7ff0u
#define REGISTER_VCPU_INFO 10u /* of VCPU_OP */
#define YIELD 0u /* of SCHED_OP */
#define POLL 3u

enum event_channel_op {
    BIND_INTERDOMAIN = 0,
    BIND_VIRQ = 1,
    BIND_PIRQ = 2,
    CLOSE = 3,
    SEND = 4,
    STATUS = 5,
    ALLOC_UNBOUND = 6,
    BIND_IPI = 7,
    BIND_VCPU = 8,
    UNMASK = 9,
    RESET = 10,
    INIT_CONTROL = 11,
    EXPAND_ARRAY = 12,
    SET_PRIORITY = 13,
    RESET_CONT = 14,
};

/* What a vCPU shares with Xen; 2L's and FIFO's upcall. */
struct vcpu_info {
    uint8_t upcall_pending;
    uint8_t upcall_mask;
    uint64_t pending_sel; /* 2L: words of the pending bitmap that have news */
    uint64_t arch[2];
    uint64_t time[4]; /* x86: how Xen's time follows from the CPU's counter */
};

#define CONTROL_BYTES 72u
struct control_block { /* FIFO, one per vCPU */
    uint32_t ready; /* a bit for each priority that has events */
    uint32_t reserved;
    uint32_t head[16];
};

#define FIFO_PENDING (1u << 31)
#define FIFO_MASKED (1u << 30)
#define FIFO_LINKED (1u << 29)
#define FIFO_LINK 0x1ffffu

/* The CPU (start-*.S, cpu-*.c). */
int64_t hypercall(enum hypercall number, uint64_t a, const volatile void *b, const volatile void *c);
void cpu_start(void); /* what hypercalls need, once */
uint64_t ticks(void);
uint64_t ticks_hz(void);
extern const size_t bitmaps_at; /* where in the shared info page 2L's bitmaps are */
void other_main(void);

#define NOT_MAPPED ((void *)0x7000000000ull)

/* What depends on who manages the guest's memory: Xen (hvm.c), or the guest (pv-x86_64.c). */
struct platform {
    uint64_t (*frame)(const volatile void *memory); /* as Xen knows it */
    void *(*read_only)(const volatile void *memory); /* the same, where Xen may not write */
    void (*map_shared_info)(void *page);
    void (*map_grants)(void *page);
    void *(*map_xenstore)(uint32_t *port);
    int (*start_other)(void); /* vCPU 1 begins in other_main(), on its own stack */
};
extern const struct platform hvm;
extern const struct platform *platform; /* chosen by cpu_start() */

/* What every guest must set up (xen.c). */
extern struct vcpu_info *const vcpu_info[VCPUS];
void xen_start(void);
uint64_t xen_time(void); /* ns of Xen's system time */
void doze(uint64_t ns); /* sleep without any event channel */
int xen_version(void); /* major << 16 | minor */
volatile uint64_t *bitmap(unsigned which); /* 2L: 0 pending, 1 masked */

/* Offer the control page to dom0: grants, and the note in xenstore (offer.c). */
struct control;
struct control *offer(void);

/* Memory (memory.c). */
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *memory, int byte, size_t count);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);

#endif
