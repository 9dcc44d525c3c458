/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the toy's two files share of channels that are published by a flag, with the barriers that
 * -DFAULT_... takes away.  Structures and functions have the names that Xen gives them.
 */
#if defined(__aarch64__) && defined(BY_DSB)
#define wmb_() asm volatile ( "dsb ishst" : : : "memory" )
#define rmb_() asm volatile ( "dsb ishld" : : : "memory" )
#elif defined(__aarch64__)
#define wmb_() asm volatile ( "dmb ishst" : : : "memory" )
#define rmb_() asm volatile ( "dmb ishld" : : : "memory" )
#else
#define wmb_() asm volatile ( "" : : : "memory" )
#define rmb_() asm volatile ( "" : : : "memory" )
#endif
#define EVTCHNS_PER_BUCKET 64u
#define BUCKETS_PER_GROUP 512u
#define EVTCHNS_PER_GROUP (EVTCHNS_PER_BUCKET * BUCKETS_PER_GROUP)

struct channel { unsigned int port, state; char fifo_priority; };
struct evtchn_fifo_domain;
struct vcpu;
struct domain {
    unsigned short domain_id;
    struct vcpu **vcpu;
    struct channel *evtchn;
    struct channel **evtchn_group[4];
    unsigned int max_evtchns, valid_evtchns;
    const void *evtchn_port_ops;
    struct evtchn_fifo_domain *evtchn_fifo;
};

#ifdef BY_LDAPR
#define read_flag(p) \
    ({ unsigned int n_; \
       asm volatile ( ".arch armv8.3-a; ldapr %w0, %1" : "=r" (n_) : "Q" (*(p)) : "memory" ); n_; })
#define after_flag()
#elif defined(BY_ACQUIRE)
#define read_flag(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define after_flag()
#else
#define read_flag(p) (*(const volatile __typeof__(*(p)) *)(p))
#define after_flag() rmb_()
#endif

#ifdef OUT_OF_LINE
static __attribute__((__noinline__))
#else
static inline __attribute__((always_inline))
#endif
int port_is_valid(struct domain *d, unsigned int p)
{
    if ( p >= read_flag(&d->valid_evtchns) )
        return 0;
#ifndef FAULT_NO_RMB
    after_flag();
#endif
    return 1;
}

static inline struct channel *evtchn_from_port(struct domain *d, unsigned int p)
{
    if ( p < EVTCHNS_PER_BUCKET )
        return &d->evtchn[p];
    return d->evtchn_group[p / EVTCHNS_PER_GROUP]
                          [p % EVTCHNS_PER_GROUP / EVTCHNS_PER_BUCKET] + p % EVTCHNS_PER_BUCKET;
}
