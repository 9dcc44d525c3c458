/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The toy's types that both of its files see. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

typedef struct { int counter; } atomic_t;
typedef union { u32 head_tail; struct { u16 head, tail; }; } spinlock_tickets_t;
union lock_debug { u16 val; struct { u16 cpu:12; u16 pad:2; u8 irq_safe:1; u8 unseen:1; }; };
typedef struct spinlock { spinlock_tickets_t tickets; u16 recurse; union lock_debug debug; } spinlock_t;
typedef struct { atomic_t cnts; spinlock_t lock; } rwlock_t;

struct evtchn_fifo_queue { u32 *head; u32 tail; u8 priority; spinlock_t lock; };
struct evtchn_fifo_vcpu { void *control_block; struct evtchn_fifo_queue queue[4]; };
