/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lock functions of a toy of Xen, compiled when tests run: those of one lock (COUNTER, RWLOCK
 * or SPINLOCK), with one fault each where -DFAULT_... asks for it.
 */
typedef struct { int counter; } atomic_t;
typedef unsigned short u16;
typedef unsigned int u32;
typedef struct {
    union { u32 head_tail; struct { u16 head, tail; }; } tickets;
    u16 debug;
} spinlock_t;
typedef struct { atomic_t cnts; spinlock_t lock; } rwlock_t;

#ifdef __aarch64__
#define W 128
#define smp_mb() asm volatile ( "dmb ish" : : : "memory" )
#define smp_rmb() asm volatile ( "dmb ishld" : : : "memory" )
#define release() smp_mb()
#define cpu_number() ({ unsigned long n_; asm ( "mrs %0, tpidr_el2" : "=r" (n_) ); *(u32 *)n_; })
#else
#define W 8192
#define smp_mb() asm volatile ( "mfence" : : : "memory" )
#define smp_rmb() asm volatile ( "" : : : "memory" )
#define release() smp_rmb()
#define cpu_number() \
    ({ unsigned long n_; asm ( "mov %%rsp, %0; or $0x7fff, %0" : "=r" (n_) ); *(u32 *)(n_ - 63); })
#endif
#define noinline __attribute__((noinline))
#define inlined static inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)

inlined int atomic_read(const atomic_t *v)
{
#ifdef BY_LDAPR
    int n;

    asm volatile ( ".arch armv8.3-a; ldapr %w0, %1" : "=r" (n) : "Q" (v->counter) : "memory" );
    return n;
#endif
    return *(const volatile int *)&v->counter;
}

/* As Xen's for arm64: the store releases, and a barrier follows. */
inlined int atomic_add_return(int i, atomic_t *v)
{
    int new = __atomic_add_fetch(&v->counter, i, __ATOMIC_RELEASE);

#ifdef __aarch64__
    smp_mb();
#endif
    return new;
}

inlined void atomic_sub(int i, atomic_t *v)
{
    __atomic_sub_fetch(&v->counter, i, __ATOMIC_RELAXED);
}

inlined int atomic_cmpxchg(atomic_t *v, int old, int new)
{
    smp_mb();
    __atomic_compare_exchange_n(&v->counter, &old, new, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    smp_mb();
    return old;
}

/* common/spinlock.c */
noinline void _spin_lock(spinlock_t *lock)
{
    u16 mine = (u32)(atomic_add_return(0x10000, (atomic_t *)&lock->tickets) - 0x10000) >> 16;

    while ( mine != *(volatile u16 *)&lock->tickets.head )
        ;
#if defined(__aarch64__) && !defined(FAULT_NO_BARRIER_AFTER_TURN)
    smp_mb();
#endif
}

noinline void _spin_unlock(spinlock_t *lock)
{
    release();
    *(volatile u16 *)&lock->tickets.head += 1;
}

#ifdef COUNTER
struct evtchn { unsigned char state, old_state; atomic_t lock; u32 port; };

noinline void evtchn_write_lock(struct evtchn *evtchn)
{
#ifdef FAULT_HALF_WRITER
    int increment = W / 2;
#else
    int increment = W;
#endif
    int val;

    for ( val = atomic_add_return(increment, &evtchn->lock); val != increment;
          val = atomic_read(&evtchn->lock) )
        ;
#ifndef FAULT_EARLY_LOAD
    smp_rmb();
#endif
    evtchn->old_state = evtchn->state;
}

noinline void evtchn_write_unlock(struct evtchn *evtchn)
{
    if ( evtchn->old_state > 1 && evtchn->state > 1 )
        __builtin_trap();
    release();
    atomic_sub(W, &evtchn->lock);
}

#ifdef TRIES_AGAIN
inlined
#else
noinline
#endif
int evtchn_tryread_lock(struct evtchn *evtchn)
{
    if ( (u32)atomic_read(&evtchn->lock) >= W )
        return 0;
    if ( (u32)atomic_add_return(1, &evtchn->lock) < W )
        return 1;
#ifndef FAULT_NO_STEP_BACK
    atomic_sub(1, &evtchn->lock);
#endif
#ifdef FAULT_SAYS_YES
    return 1;
#else
    return 0;
#endif
}

noinline void evtchn_read_unlock(struct evtchn *evtchn)
{
#ifdef BY_STORE_RELEASE
    __atomic_sub_fetch(&evtchn->lock.counter, 1, __ATOMIC_RELEASE);
#else
#ifndef FAULT_NO_RELEASE
    release();
#endif
    atomic_sub(1, &evtchn->lock);
#endif
}

#ifdef TRIES_AGAIN
noinline void evtchn_unmask(struct evtchn *evtchn)
{
    while ( !evtchn_tryread_lock(evtchn) )
        ;
    evtchn->port++;
    evtchn_read_unlock(evtchn);
}
#endif
#endif

#ifdef RWLOCK
struct evtchn { unsigned char state; rwlock_t lock; u32 port; };

#ifndef SHIFT
#define SHIFT 12
#endif
#ifdef BYTE_WIDE /* as before 4.14: no CPU in it */
#define WAITING 1
#define LOCKED 0xff
#define BIAS 0x100
#define writer() LOCKED
#else
#define WAITING (1 << SHIFT)
#define LOCKED (3 << SHIFT)
#define BIAS (4 << SHIFT)
#define writer() (LOCKED | cpu_number())
#endif

#ifdef CALLS_CAN_READ_LOCK
noinline
#else
inlined
#endif
int _can_read_lock(int cnts)
{
#ifdef BYTE_WIDE
    return !(cnts & LOCKED);
#else
    return !(cnts & LOCKED) || ((cnts & LOCKED) == LOCKED && (cnts & (WAITING - 1)) == cpu_number());
#endif
}

noinline void queue_read_lock_slowpath(rwlock_t *lock)
{
    int cnts;

    atomic_sub(BIAS, &lock->cnts);
    _spin_lock(&lock->lock);
    while ( atomic_read(&lock->cnts) & LOCKED )
        ;
    cnts = atomic_add_return(BIAS, &lock->cnts);
    while ( (cnts & LOCKED) == LOCKED )
    {
        smp_rmb();
        cnts = atomic_read(&lock->cnts);
    }
    _spin_unlock(&lock->lock);
}

noinline void queue_write_lock_slowpath(rwlock_t *lock)
{
    int cnts;

    _spin_lock(&lock->lock);
    if ( !atomic_read(&lock->cnts) &&
         !atomic_cmpxchg(&lock->cnts, 0, writer()) )
        goto unlock;
    for ( ; ; )
    {
        cnts = atomic_read(&lock->cnts);
        if ( !(cnts & LOCKED) && atomic_cmpxchg(&lock->cnts, cnts, cnts | WAITING) == cnts )
            break;
    }
    for ( ; ; )
    {
        cnts = atomic_read(&lock->cnts);
        if ( cnts == WAITING &&
             atomic_cmpxchg(&lock->cnts, WAITING, writer()) == WAITING )
            break;
    }
 unlock:
    _spin_unlock(&lock->lock);
}

inlined void _read_lock(rwlock_t *lock)
{
    if ( likely(_can_read_lock(atomic_add_return(BIAS, &lock->cnts))) )
        return;
    queue_read_lock_slowpath(lock);
}

inlined int _read_trylock(rwlock_t *lock)
{
    if ( likely(_can_read_lock(atomic_read(&lock->cnts))) )
    {
        if ( likely(_can_read_lock(atomic_add_return(BIAS, &lock->cnts))) )
            return 1;
        atomic_sub(BIAS, &lock->cnts);
    }
#ifdef FAULT_SAYS_YES
    return 1;
#else
    return 0;
#endif
}

inlined void _read_unlock(rwlock_t *lock)
{
#ifndef FAULT_NO_RELEASE
    release();
#endif
    atomic_sub(BIAS, &lock->cnts);
}

inlined void _write_lock(rwlock_t *lock)
{
#ifdef HOISTED_BARRIER
    int old = 0;

    __atomic_compare_exchange_n(&lock->cnts.counter, &old, writer(), 0,
                                __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    smp_mb();
    if ( !old )
        return;
#else
    if ( !atomic_cmpxchg(&lock->cnts, 0, writer()) )
        return;
#endif
    queue_write_lock_slowpath(lock);
}

inlined void _write_unlock(rwlock_t *lock)
{
    release();
#if defined(BYTE_WIDE) && defined(FAULT_KEEPS_BIT)
    atomic_sub(LOCKED - WAITING, &lock->cnts);
#elif defined(BYTE_WIDE)
    atomic_sub(LOCKED, &lock->cnts);
#elif defined(FAULT_KEEPS_BIT)
    __atomic_and_fetch(&lock->cnts.counter, ~(BIAS - 1 - WAITING), __ATOMIC_RELAXED);
#else
    __atomic_and_fetch(&lock->cnts.counter, ~(BIAS - 1), __ATOMIC_RELAXED);
#endif
}

noinline u32 evtchn_send(struct evtchn *evtchn)
{
    u32 port;

    _read_lock(&evtchn->lock);
    port = evtchn->port;
    _read_unlock(&evtchn->lock);
    return port;
}

noinline u32 send_guest_vcpu_virq(struct evtchn *evtchn)
{
    u32 port = 0;

    if ( _read_trylock(&evtchn->lock) )
    {
        port = evtchn->port;
        _read_unlock(&evtchn->lock);
    }
    return port;
}

noinline void evtchn_close(struct evtchn *evtchn)
{
#ifdef HOISTED_BARRIER
    /* As clang does it: one barrier before the branch to either copy, and none in the copies. */
    smp_mb();
#ifdef FAULT_ACCESS_BEHIND_IT
    *(volatile u32 *)&evtchn->port = 0;
#endif
    if ( (unsigned long)evtchn & 64 )
    {
        _write_lock(&evtchn->lock);
        evtchn->port = 1;
    }
    else
#endif
    _write_lock(&evtchn->lock);
    evtchn->state = 0;
    _write_unlock(&evtchn->lock);
}
#endif

#ifdef SPINLOCK
struct evtchn { unsigned char state; spinlock_t lock; u32 port; };
#endif

struct evtchn channel;
void _start(void) { }

#ifdef PUBLISHES
#include "../xen/event.h"

noinline void *xzalloc(unsigned int bytes)
{
    static char memory[1 << 16];
    static unsigned int used;

    used += bytes;
    return used < sizeof(memory) ? memory + used - bytes : 0;
}

int evtchn_allocate_port(struct domain *d, unsigned int port)
{
    unsigned int next;

    if ( port_is_valid(d, port) )
        return evtchn_from_port(d, port)->state ? -16 : 0;
    next = *(volatile unsigned int *)&d->valid_evtchns;
    do {
        struct channel *chn, ***group = &d->evtchn_group[next / EVTCHNS_PER_GROUP];

        if ( !*group && !(*group = xzalloc(BUCKETS_PER_GROUP * sizeof(chn))) )
            return -12;
        if ( !(chn = xzalloc(EVTCHNS_PER_BUCKET * sizeof(*chn))) )
            return -12;
        for ( unsigned int i = 0; i < EVTCHNS_PER_BUCKET; i++ )
            chn[i].port = next + i;
        (*group)[next % EVTCHNS_PER_GROUP / EVTCHNS_PER_BUCKET] = chn;
        next += EVTCHNS_PER_BUCKET;
#ifdef BY_ACQUIRE
        __atomic_store_n(&d->valid_evtchns, next, __ATOMIC_RELEASE);
#else
#ifndef FAULT_NO_WMB
        wmb_();
#endif
        *(volatile unsigned int *)&d->valid_evtchns = next;
#endif
    } while ( port >= next );
    return 0;
}

int evtchn_status(struct domain *d, unsigned int port)
{
    return port_is_valid(d, port) ? (int)evtchn_from_port(d, port)->state : -22;
}

#ifdef SWITCH
noinline int use(int i, struct domain *d)
{
    return i * d->domain_id;
}

/* Its jump goes through a table; each way has something of its own. */
int do_event_channel_op(int cmd, struct domain *d, unsigned int port)
{
    switch ( cmd )
    {
    case 0: return use(3, d);
    case 1: return use(port, d) + 1;
    case 2: d->max_evtchns = port; return 2;
    case 3: return port_is_valid(d, port) ? (int)evtchn_from_port(d, port)->state : -22;
    case 4: return use(5, d) ^ 7;
    case 5: return d->domain_id;
    case 6: return use(port, d) - 9;
    default: return -38;
    }
}
#endif
#endif
