/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "slots.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>

#include "device.h"
#include "raw.h"
#include "ticks.h"

#define FIRST_FREE_VIRQ 17u /* VIRQ_ARCH_1..7: nobody uses them */
#define FREE_VIRQS 7u
#define READ_AT_ONCE 8u

enum how { NONE, RAW, DEVICE };
enum target { TO_ANCHOR, TO_PEER, TO_VIRQ, TO_IPI };

struct place {
    uint32_t port; /* 0: none */
    uint32_t holders;
};

struct slot {
    enum how anchor_by, end_by;
    enum target target; /* of the end */
    uint16_t peer; /* whom the anchor is for, or whose anchors the end is bound to */
    uint16_t number; /* VIRQ or vCPU */
    struct place anchor, end;
};

struct peer {
    uint16_t domid;
    uint32_t ports[MAX_ANCHORS];
    unsigned count;
};

static struct slot slots[MAX_SLOTS];
static unsigned slot_count;
static struct peer peers[MAX_PEERS];
static unsigned peer_count;
static unsigned vcpu_count;

/* Each way has an open file of its own, so that NOTIFY also meets ports that are not its. */
static unsigned handle_of(const struct slot *s)
{
    return s->target == TO_ANCHOR && s->anchor_by == s->end_by ? 1 : s->target == TO_VIRQ ? 3 : 2;
}
#define FIRST_HANDLE 1u
#define LAST_HANDLE 3u

/* --- laying out --- */

static struct slot *add(enum how anchor_by, enum how end_by, enum target target, uint16_t peer)
{
    struct slot *s = &slots[slot_count < MAX_SLOTS ? slot_count : MAX_SLOTS - 1];

    slot_count++;
    memset(s, 0, sizeof(*s));
    s->anchor_by = anchor_by;
    s->end_by = end_by;
    s->target = target;
    s->peer = peer;
    return s;
}

static void add_cross(uint16_t domid, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add(RAW, NONE, TO_ANCHOR, domid);
        add(DEVICE, NONE, TO_ANCHOR, domid);
        add(NONE, RAW, TO_PEER, domid);
        add(NONE, DEVICE, TO_PEER, domid);
    }
}

static void add_virqs(uint16_t own_domid, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add(NONE, RAW, TO_VIRQ, own_domid)->number = (uint16_t)(FIRST_FREE_VIRQ + i % FREE_VIRQS);
        add(NONE, DEVICE, TO_VIRQ, own_domid)->number =
            (uint16_t)(FIRST_FREE_VIRQ + (FREE_VIRQS - 1 - i % FREE_VIRQS));
        add(NONE, RAW, TO_IPI, own_domid)->number = (uint16_t)(i % vcpu_count);
    }
}

int slots_lay_out(const struct slot_plan *plan, uint16_t own_domid, unsigned vcpus)
{
    slot_count = 0;
    vcpu_count = vcpus;
    peer_count = plan->peers;
    for (unsigned i = 0; i < plan->raw; i++)
        add(RAW, RAW, TO_ANCHOR, own_domid);
    for (unsigned i = 0; i < plan->device; i++)
        add(DEVICE, DEVICE, TO_ANCHOR, own_domid);
    for (unsigned i = 0; i < plan->peers; i++) {
        memset(&peers[i], 0, sizeof(peers[i]));
        peers[i].domid = plan->peer[i];
        add_cross(plan->peer[i], plan->cross);
    }
    add_virqs(own_domid, plan->virq);
    return slot_count > MAX_SLOTS ? -E2BIG : (int)slot_count;
}

unsigned slots_anchors(uint16_t domid, uint32_t *ports)
{
    unsigned count = 0;

    for (unsigned i = 0; i < slot_count && count < MAX_ANCHORS; i++)
        if (slots[i].anchor_by != NONE && slots[i].end_by == NONE && slots[i].peer == domid)
            ports[count++] = slots[i].anchor.port;
    return count;
}

int slots_peer(uint16_t domid, const uint32_t *ports, unsigned count)
{
    for (unsigned i = 0; i < peer_count; i++)
        if (peers[i].domid == domid && count <= MAX_ANCHORS) {
            memcpy(peers[i].ports, ports, count * sizeof(*ports));
            peers[i].count = count;
            return 0;
        }
    return -ENOENT;
}

/* --- sharing a port between threads --- */

static uint32_t look(struct place *p)
{
    return __atomic_load_n(&p->port, __ATOMIC_SEQ_CST);
}

/* The port, which nobody will close until it is let go; 0 when there is none. */
static uint32_t hold(struct place *p)
{
    uint32_t port;

    __atomic_fetch_add(&p->holders, 1, __ATOMIC_SEQ_CST);
    port = look(p);
    if (!port)
        __atomic_fetch_sub(&p->holders, 1, __ATOMIC_SEQ_CST);
    return port;
}

static void let_go(struct place *p)
{
    __atomic_fetch_sub(&p->holders, 1, __ATOMIC_SEQ_CST);
}

/* The port, for the caller alone to close; 0 when there is none. */
static uint32_t take_out(struct place *p)
{
    uint32_t port = __atomic_exchange_n(&p->port, 0, __ATOMIC_SEQ_CST);

    while (port && __atomic_load_n(&p->holders, __ATOMIC_SEQ_CST))
        sched_yield();
    return port;
}

static void close_port(struct actor *a, const struct slot *s, enum how by, uint32_t port)
{
    if (by == RAW)
        raw_close(a, port);
    else
        device_unbind(a, handle_of(s), port);
}

/* Offer a new port to all threads, unless one of them was quicker. */
static void put_in(struct actor *a, const struct slot *s, struct place *p, enum how by, int port)
{
    uint32_t none = 0;

    if (port > 0 && !__atomic_compare_exchange_n(&p->port, &none, (uint32_t)port, 0,
                                                 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        close_port(a, s, by, (uint32_t)port);
}

/* --- the actions --- */

static int allocate(struct actor *a, const struct slot *s)
{
    return s->anchor_by == RAW ? raw_alloc_unbound(a, DOMID_SELF, s->peer)
                               : device_bind_unbound(a, handle_of(s), s->peer);
}

static int bind_to(struct actor *a, const struct slot *s, uint32_t remote_port)
{
    return s->end_by == RAW ? raw_bind_interdomain(a, s->peer, remote_port)
                            : device_bind_interdomain(a, handle_of(s), s->peer, remote_port);
}

static int bind_end(struct actor *a, struct slot *s, uint32_t value)
{
    switch (s->target) {
    case TO_VIRQ:
        return s->end_by == RAW ? raw_bind_virq(a, s->number, 0)
                                : device_bind_virq(a, handle_of(s), s->number);
    case TO_IPI:
        return raw_bind_ipi(a, s->number);
    case TO_ANCHOR: {
        uint32_t anchor = look(&s->anchor);
        return anchor ? bind_to(a, s, anchor) : -ENOENT;
    }
    case TO_PEER:
        for (unsigned i = 0; i < peer_count; i++)
            if (peers[i].domid == s->peer && peers[i].count)
                return bind_to(a, s, peers[i].ports[value % peers[i].count]);
    }
    return -ENOENT;
}

static void turn_end(struct actor *a, struct slot *s, uint32_t value)
{
    uint32_t port = take_out(&s->end);

    if (port)
        close_port(a, s, s->end_by, port);
    else
        put_in(a, s, &s->end, s->end_by, bind_end(a, s, value));
}

static void turn_anchor(struct actor *a, struct slot *s)
{
    uint32_t port = take_out(&s->anchor);

    if (port)
        close_port(a, s, s->anchor_by, port);
    put_in(a, s, &s->anchor, s->anchor_by, allocate(a, s));
}

static void read_events(struct actor *a, unsigned handle)
{
    uint32_t ports[READ_AT_ONCE];
    int count = device_read(a, handle, ports, READ_AT_ONCE, 0);

    if (count > 0)
        device_enable(a, handle, ports, (unsigned)count);
}

static void send_event(struct actor *a, const struct slot *s, enum how by, uint32_t port,
                       uint32_t value)
{
    if (by == DEVICE && value & 6) /* every fourth bypasses Linux, which hides Xen's answer */
        device_notify(a, handle_of(s), port);
    else
        raw_send(a, port);
}

/* What changes a raw port in a way that would confuse a driver. */
static void change(struct actor *a, struct place *p, uint8_t action, uint32_t value)
{
    uint32_t port = hold(p);

    if (!port)
        return;
    if (action == ACTION_UNMASK)
        raw_unmask(a, port);
    else if (action == ACTION_BIND_VCPU)
        raw_bind_vcpu(a, port, (value >> 1) % vcpu_count);
    else
        raw_set_priority(a, port, (value >> 1) % 16);
    let_go(p);
}

void slots_step(struct actor *a, const struct step *step)
{
    struct slot *s = &slots[step->slot];
    bool anchor = s->end_by == NONE || (s->anchor_by != NONE && step->value & 1);
    struct place *p = anchor ? &s->anchor : &s->end;
    enum how by = anchor ? s->anchor_by : s->end_by;
    struct channel_status status;
    uint32_t port;

    switch (step->action) {
    case ACTION_TURN_END:
        if (s->end_by != NONE)
            turn_end(a, s, step->value);
        return;
    case ACTION_TURN_ANCHOR:
        if (s->anchor_by != NONE)
            turn_anchor(a, s);
        return;
    case ACTION_UNMASK:
    case ACTION_BIND_VCPU:
    case ACTION_SET_PRIORITY:
        if (by == RAW) {
            change(a, p, step->action, step->value);
            return;
        }
        break;
    case ACTION_SEND:
    case ACTION_STATUS:
    case ACTION_POLL:
        port = look(p);
        if (!port)
            return;
        if (step->action == ACTION_SEND)
            send_event(a, s, by, port, step->value);
        else if (step->action == ACTION_STATUS)
            raw_status(a, port, &status);
        else
            raw_poll(a, port);
        return;
    default:
        break;
    }
    read_events(a, handle_of(s));
}

int slots_anchor(struct actor *a)
{
    for (unsigned i = 0; i < slot_count; i++)
        if (slots[i].anchor_by != NONE) {
            int port = allocate(a, &slots[i]);
            if (port < 0)
                return port;
            slots[i].anchor.port = (uint32_t)port;
        }
    return 0;
}

int slots_drain(struct actor *a, unsigned quiet_ms)
{
    uint64_t hz = ticks_hz();
    uint64_t last = ticks();
    int total = 0;

    while (ticks() - last < hz / 1000 * quiet_ms)
        for (unsigned handle = FIRST_HANDLE; handle <= LAST_HANDLE; handle++) {
            uint32_t ports[READ_AT_ONCE];
            int count = device_read(a, handle, ports, READ_AT_ONCE, 5);
            if (count > 0) {
                device_enable(a, handle, ports, (unsigned)count);
                total += count;
                last = ticks();
            }
        }
    return total;
}
