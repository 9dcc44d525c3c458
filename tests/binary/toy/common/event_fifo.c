/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A toy of Xen's FIFO channels: the control block, its queues' heads, and the event array. */
#include "../xen/event.h"

#define PRIORITIES 16
#define PAGES 128
#define WORDS_PER_PAGE 1024u
#define noinline __attribute__((noinline))

struct control_block { unsigned int ready, unused, head[PRIORITIES]; };
struct evtchn_fifo_queue { unsigned int *head, tail; unsigned char priority; };
struct evtchn_fifo_vcpu {
    struct control_block *control_block;
    struct evtchn_fifo_queue queue[PRIORITIES];
};
struct evtchn_fifo_domain { unsigned int *event_array[PAGES], num_evtchns; };
struct vcpu { int vcpu_id; struct domain *domain; struct evtchn_fifo_vcpu *evtchn_fifo; };

noinline int test_and_set_bit(unsigned int *word, unsigned int bit)
{
    unsigned int old = __atomic_fetch_or(word, 1u << bit, __ATOMIC_RELEASE);

#if defined(__aarch64__) && !defined(FAULT_BIT_ORDERS_NOTHING)
    asm volatile ( "dmb ish" : : : "memory" );
#endif
    return old >> bit & 1;
}

static inline unsigned int *evtchn_fifo_word_from_port(struct domain *d, unsigned int port)
{
#ifndef FAULT_NO_RMB_BEFORE_FIFO
    rmb_();
#endif
    if ( port >= read_flag(&d->evtchn_fifo->num_evtchns) )
        return 0;
#ifndef FAULT_NO_RMB_BEFORE_ARRAY
    after_flag();
#endif
    port &= -(unsigned int)(port < d->evtchn_fifo->num_evtchns); /* the flag once more */
    return d->evtchn_fifo->event_array[port / WORDS_PER_PAGE] + port % WORDS_PER_PAGE;
}

noinline int map_control_block(struct vcpu *v, struct control_block *control_block)
{
    if ( v->evtchn_fifo->control_block )
        return -22;
#ifdef FAULT_FLAG_FIRST
    v->evtchn_fifo->control_block = control_block;
    asm volatile ( "" : : : "memory" );
#endif
    for ( unsigned int i = 0; i < PRIORITIES; i++ )
        v->evtchn_fifo->queue[i].head = &control_block->head[i];
#ifndef FAULT_FLAG_FIRST
#ifndef FAULT_NO_WMB_BEFORE_CONTROL_BLOCK
    wmb_();
#endif
    v->evtchn_fifo->control_block = control_block;
#endif
    return 0;
}

void evtchn_fifo_set_pending(struct vcpu *v, struct channel *evtchn)
{
    struct evtchn_fifo_queue *q = &v->evtchn_fifo->queue[(unsigned char)evtchn->fifo_priority];
    unsigned int *word = evtchn_fifo_word_from_port(v->domain, evtchn->port);

    if ( !word || !v->evtchn_fifo->control_block )
        return;
    if ( test_and_set_bit(word, 29) )
        return;
    *(volatile unsigned int *)q->head = evtchn->port;
    q->tail = evtchn->port;
    if ( v->evtchn_fifo->control_block->ready )
        v->vcpu_id = 0;
}

int evtchn_fifo_is_pending(struct domain *d, const struct channel *evtchn)
{
    unsigned int *word = evtchn_fifo_word_from_port(d, evtchn->port);

    return word && *word >> 31;
}

static int add_page_to_event_array(struct domain *d, void *page)
{
    unsigned int slot = d->evtchn_fifo->num_evtchns / WORDS_PER_PAGE;

    if ( slot >= PAGES )
        return -28;
    d->evtchn_fifo->event_array[slot] = page;
#ifndef FAULT_NO_WMB_BEFORE_NUM
    wmb_();
#endif
    d->evtchn_fifo->num_evtchns += WORDS_PER_PAGE;
    for ( unsigned int port = 0; port < d->evtchn_fifo->num_evtchns; port++ )
    {
        if ( !port_is_valid(d, port) )
            break;
        if ( evtchn_from_port(d, port)->state )
            evtchn_fifo_set_pending(d->vcpu[0], evtchn_from_port(d, port));
    }
    return 0;
}

int evtchn_fifo_expand_array(struct domain *d, void *page)
{
    return d->evtchn_fifo ? add_page_to_event_array(d, page) : -95;
}
