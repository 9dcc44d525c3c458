/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A toy of Xen, compiled when tests run: its locks are inlined as the real ones are, its domains
 * are initialised data.  The instructions labelled "here_..." are in the loop of a lock.
 */
#include "types.h"

extern struct evtchn_fifo_vcpu fifo10;

struct evtchn { atomic_t lock; u8 state; u32 port; };
struct vcpu { int vcpu_id; spinlock_t virq_lock; struct evtchn_fifo_vcpu *evtchn_fifo; };
struct domain {
    u16 domain_id;
    u32 max_vcpus;
    struct vcpu **vcpu;
    struct domain *next_in_list;
    rwlock_t event_lock;
    struct evtchn *evtchn;
    struct evtchn **evtchn_group[2];
};

#define WRITER (sizeof(void *) == 8 && ARM ? 128 : 8192)
#define BUSY(leaked) { (leaked) ? WRITER + 1 : 0 }

struct evtchn channels[2][4] = {
    { { BUSY(0), 0, 0 }, { BUSY(0), 0, 1 }, { BUSY(1), 0, 2 }, { BUSY(0), 0, 3 } },
    { { BUSY(0), 0, 0 }, { BUSY(0), 0, 1 }, { BUSY(0), 0, 2 }, { BUSY(0), 0, 3 } },
};
struct vcpu v10 = { 0, { { 0x00050004 }, 0, { 3 } }, &fifo10 };
struct vcpu *vcpus1[1] = { &v10 };
/* d0's event_lock is held by CPU 1, d1's by CPU 0: 3 << 12, and the CPU. */
struct domain d1 = { 1, 1, vcpus1, 0, { { 0x3000 }, { { 0 }, 0, { 0xffff } } }, channels[1], { 0, 0 } };
struct domain d0 = { 0, 0, 0, &d1, { { 0x3001 }, { { 0 }, 0, { 0xffff } } }, channels[0], { 0, 0 } };
struct domain *domain_list = &d0;
spinlock_t heap_lock = { { 0x00020001 }, 0, { 2 } };

static inline __attribute__((always_inline)) int atomic_read(const atomic_t *v)
{
    return *(volatile const int *)&v->counter;
}

/* One function each, for a label can be there once. */
#define LOOP(label, lock) \
    asm volatile ( ".globl " label "\n" label ": " MOVE : : "r" (lock) : "memory" )
/* Has the compiler keep the lock's address in a register, and not compute it at each use. */
#define KEEP(lock) asm volatile ( "" : "+r" (lock) )
#if ARM
#define MOVE "mov xzr, %0"
#else
#define MOVE "test %0, %0"
#endif

static inline __attribute__((always_inline)) void evtchn_write_lock(struct evtchn *evtchn)
{
    int val;

    KEEP(evtchn);
    val = __atomic_add_fetch(&evtchn->lock.counter, WRITER, __ATOMIC_SEQ_CST);
    while ( val != WRITER )
    {
        LOOP("here_channel", evtchn);
        val = atomic_read(&evtchn->lock);
    }
}

static inline __attribute__((always_inline)) void _write_lock(rwlock_t *lock)
{
    KEEP(lock);
    while ( __atomic_load_n(&lock->cnts.counter, __ATOMIC_RELAXED) )
        LOOP("here_rwlock", lock);
}

__attribute__((noinline)) void _spin_lock(spinlock_t *lock)
{
    KEEP(lock);
    while ( *(volatile u16 *)&lock->tickets.head != lock->tickets.tail )
        LOOP("here_spinlock", lock);
}

static inline __attribute__((always_inline)) int atomic_peek(const atomic_t *v)
{
    LOOP("here_renamed", v);
    return *(volatile const int *)&v->counter;
}

/* A lock function that nobody knows by its name. */
static inline __attribute__((always_inline)) void claim(struct evtchn *chn)
{
    KEEP(chn);
    __atomic_fetch_add(&chn->lock.counter, WRITER, __ATOMIC_SEQ_CST);
    while ( atomic_peek(&chn->lock) != WRITER )
        ;
}

__attribute__((noinline)) int evtchn_bind_virq(struct domain *d, u32 port)
{
    claim(&d->evtchn[port]);
    return port;
}

static inline __attribute__((always_inline)) int evtchn_alloc_unbound(struct domain *d, u32 port)
{
    struct evtchn *chn = &d->evtchn[port];

    evtchn_write_lock(chn);
    chn->state = 2;
    return port;
}

static inline __attribute__((always_inline)) int evtchn_close(struct domain *d)
{
    _write_lock(&d->event_lock);
    return 0;
}

__attribute__((noinline)) void send_guest_vcpu_virq(struct vcpu *v)
{
    _spin_lock(&v->virq_lock);
    v->vcpu_id++;
}

__attribute__((noinline)) long do_event_channel_op(int cmd, struct domain *d, u32 port)
{
    switch ( cmd )
    {
    case 0: return evtchn_alloc_unbound(d, port);
    case 1: return evtchn_close(d);
    case 2: send_guest_vcpu_virq(d->vcpu[0]); return 1;
    case 3: return evtchn_bind_virq(d, port);
    }
    _spin_lock(&heap_lock);
    return 2;
}

/* What Xen's own code is interrupted by; in Xen assembly calls it, here nobody does. */
__attribute__((noinline, used)) void do_trap_irq(struct vcpu *v)
{
    _spin_lock(&v->virq_lock);
    v->vcpu_id++;
}

void _start(void)
{
    for ( ; ; )
        do_event_channel_op(*(volatile int *)0, domain_list, 2);
}
