/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What xen_memory.py looks for in Xen: one domain, and its channels, whose locks are rwlocks. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

typedef struct { int counter; } atomic_t;
typedef union { u32 head_tail; struct { u16 head, tail; }; } spinlock_tickets_t;
typedef struct spinlock { spinlock_tickets_t tickets; } spinlock_t;
typedef struct { atomic_t cnts; spinlock_t lock; } rwlock_t;

struct evtchn { rwlock_t lock; u8 state; } __attribute__((aligned(64)));
struct domain {
    u16 domain_id;
    struct domain *next_in_list;
    EVENT_LOCK event_lock;
    struct evtchn *evtchn;
};

struct evtchn channels[4];
struct domain dom0 = { .evtchn = channels };
struct domain *domain_list = &dom0;

void _start(void)
{
}
