/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "channel_pool.h"

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
#define FIRST_HANDLE 1u
#define LAST_HANDLE 3u

/* How a port is made and closed; NONE: the channel has no such port here. */
enum interface { NONE, RAW, DEVICE };

/* What a channel's bound port is bound to. */
enum target { OWN_PORT, PEER_PORT, VIRQ, IPI };

/* A port that all threads see; 0: there is none now. */
struct shared_port {
    uint32_t port;
    uint32_t pins;
};

struct channel {
    enum interface allocated_via, bound_via;
    enum target target;
    uint16_t peer; /* who may bind to the allocated port, or whose port the bound one is bound to */
    uint16_t number; /* VIRQ or vCPU */
    struct shared_port allocated, bound;
};

struct peer {
    uint16_t domid;
    uint32_t ports[MAX_PEER_PORTS];
    unsigned count;
};

static struct channel channels[MAX_CHANNELS];
static unsigned channel_count;
static struct peer peers[MAX_PEERS];
static unsigned peer_count;
static unsigned vcpu_count;

/* Three open files, so that IOCTL_EVTCHN_NOTIFY is also tried with ports that are another's. */
static unsigned handle_of(const struct channel *c)
{
    if (c->target == OWN_PORT && c->allocated_via == c->bound_via)
        return FIRST_HANDLE;
    return c->target == VIRQ ? LAST_HANDLE : 2;
}

/* --- choosing the channels --- */

static struct channel *add(enum interface allocated_via, enum interface bound_via,
                           enum target target, uint16_t peer)
{
    struct channel *c = &channels[channel_count < MAX_CHANNELS ? channel_count : MAX_CHANNELS - 1];

    channel_count++;
    memset(c, 0, sizeof(*c));
    c->allocated_via = allocated_via;
    c->bound_via = bound_via;
    c->target = target;
    c->peer = peer;
    return c;
}

static void add_cross(uint16_t domid, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add(RAW, NONE, OWN_PORT, domid);
        add(DEVICE, NONE, OWN_PORT, domid);
        add(NONE, RAW, PEER_PORT, domid);
        add(NONE, DEVICE, PEER_PORT, domid);
    }
}

static void add_virqs(uint16_t own_domid, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add(NONE, RAW, VIRQ, own_domid)->number = (uint16_t)(FIRST_FREE_VIRQ + i % FREE_VIRQS);
        add(NONE, DEVICE, VIRQ, own_domid)->number =
            (uint16_t)(FIRST_FREE_VIRQ + (FREE_VIRQS - 1 - i % FREE_VIRQS));
        add(NONE, RAW, IPI, own_domid)->number = (uint16_t)(i % vcpu_count);
    }
}

int pool_lay_out(const struct pool_plan *plan, uint16_t own_domid, unsigned vcpus)
{
    channel_count = 0;
    vcpu_count = vcpus;
    peer_count = plan->peers;
    for (unsigned i = 0; i < plan->raw; i++)
        add(RAW, RAW, OWN_PORT, own_domid);
    for (unsigned i = 0; i < plan->device; i++)
        add(DEVICE, DEVICE, OWN_PORT, own_domid);
    for (unsigned i = 0; i < plan->peers; i++) {
        memset(&peers[i], 0, sizeof(peers[i]));
        peers[i].domid = plan->peer[i];
        add_cross(plan->peer[i], plan->cross);
    }
    add_virqs(own_domid, plan->virq);
    return channel_count > MAX_CHANNELS ? -E2BIG : (int)channel_count;
}

unsigned pool_ports_for(uint16_t peer, uint32_t *ports)
{
    unsigned count = 0;

    for (unsigned i = 0; i < channel_count && count < MAX_PEER_PORTS; i++) {
        const struct channel *c = &channels[i];
        if (c->allocated_via != NONE && c->bound_via == NONE && c->peer == peer)
            ports[count++] = c->allocated.port;
    }
    return count;
}

int pool_set_peer_ports(uint16_t peer, const uint32_t *ports, unsigned count)
{
    for (unsigned i = 0; i < peer_count; i++)
        if (peers[i].domid == peer && count <= MAX_PEER_PORTS) {
            memcpy(peers[i].ports, ports, count * sizeof(*ports));
            peers[i].count = count;
            return 0;
        }
    return -ENOENT;
}

/* --- sharing a port between threads --- */

/* The port as it is now; another thread may close it at once. */
static uint32_t current(struct shared_port *p)
{
    return __atomic_load_n(&p->port, __ATOMIC_SEQ_CST);
}

/* The port, which nobody closes until it is unpinned; 0 when there is none. */
static uint32_t pin(struct shared_port *p)
{
    uint32_t port;

    __atomic_fetch_add(&p->pins, 1, __ATOMIC_SEQ_CST);
    port = current(p);
    if (!port)
        __atomic_fetch_sub(&p->pins, 1, __ATOMIC_SEQ_CST);
    return port;
}

static void unpin(struct shared_port *p)
{
    __atomic_fetch_sub(&p->pins, 1, __ATOMIC_SEQ_CST);
}

/* The port, which only the caller may close now, and nobody has pinned; 0 when there is none. */
static uint32_t remove_port(struct shared_port *p)
{
    uint32_t port = __atomic_exchange_n(&p->port, 0, __ATOMIC_SEQ_CST);

    while (port && __atomic_load_n(&p->pins, __ATOMIC_SEQ_CST))
        sched_yield();
    return port;
}

static void close_port(struct actor *a, const struct channel *c, enum interface via, uint32_t port)
{
    if (via == RAW)
        raw_close(a, port);
    else
        device_unbind(a, handle_of(c), port);
}

/* Let all threads see a new port.  If another thread was quicker, close it again. */
static void publish(struct actor *a, const struct channel *c, struct shared_port *p,
                    enum interface via, int port)
{
    uint32_t none = 0;

    if (port > 0 && !__atomic_compare_exchange_n(&p->port, &none, (uint32_t)port, 0,
                                                 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        close_port(a, c, via, (uint32_t)port);
}

/* --- the actions of a workload --- */

static int allocate(struct actor *a, const struct channel *c)
{
    return c->allocated_via == RAW ? raw_alloc_unbound(a, DOMID_SELF, c->peer)
                                   : device_bind_unbound(a, handle_of(c), c->peer);
}

static int bind_interdomain(struct actor *a, const struct channel *c, uint32_t remote_port)
{
    return c->bound_via == RAW ? raw_bind_interdomain(a, c->peer, remote_port)
                               : device_bind_interdomain(a, handle_of(c), c->peer, remote_port);
}

/* Returns the new port, or -errno. */
static int bind(struct actor *a, struct channel *c, uint32_t value)
{
    switch (c->target) {
    case VIRQ:
        return c->bound_via == RAW ? raw_bind_virq(a, c->number, 0)
                                   : device_bind_virq(a, handle_of(c), c->number);
    case IPI:
        return raw_bind_ipi(a, c->number);
    case OWN_PORT: {
        uint32_t port = current(&c->allocated);
        return port ? bind_interdomain(a, c, port) : -ENOENT;
    }
    case PEER_PORT:
        for (unsigned i = 0; i < peer_count; i++)
            if (peers[i].domid == c->peer && peers[i].count)
                return bind_interdomain(a, c, peers[i].ports[value % peers[i].count]);
    }
    return -ENOENT;
}

static void close_or_bind(struct actor *a, struct channel *c, uint32_t value)
{
    uint32_t port = remove_port(&c->bound);

    if (port)
        close_port(a, c, c->bound_via, port);
    else
        publish(a, c, &c->bound, c->bound_via, bind(a, c, value));
}

static void reallocate(struct actor *a, struct channel *c)
{
    uint32_t port = remove_port(&c->allocated);

    if (port)
        close_port(a, c, c->allocated_via, port);
    publish(a, c, &c->allocated, c->allocated_via, allocate(a, c));
}

static void read_events(struct actor *a, unsigned handle)
{
    uint32_t ports[READ_AT_ONCE];
    int count = device_read(a, handle, ports, READ_AT_ONCE, 0);

    if (count > 0)
        device_enable(a, handle, ports, (unsigned)count);
}

static void send_event(struct actor *a, const struct channel *c, enum interface via, uint32_t port,
                       uint32_t value)
{
    if (via == DEVICE && value & 6) /* every fourth bypasses Linux, which hides Xen's answer */
        device_notify(a, handle_of(c), port);
    else
        raw_send(a, port);
}

/* What would confuse a driver, had it got the port's number meanwhile. */
static void change_pinned(struct actor *a, struct shared_port *p, uint8_t action, uint32_t value)
{
    uint32_t port = pin(p);

    if (!port)
        return;
    if (action == ACTION_UNMASK)
        raw_unmask(a, port);
    else if (action == ACTION_BIND_VCPU)
        raw_bind_vcpu(a, port, (value >> 1) % vcpu_count);
    else
        raw_set_priority(a, port, (value >> 1) % 16);
    unpin(p);
}

void pool_step(struct actor *a, const struct step *step)
{
    struct channel *c = &channels[step->channel];
    bool allocated = c->bound_via == NONE || (c->allocated_via != NONE && step->value & 1);
    struct shared_port *p = allocated ? &c->allocated : &c->bound;
    enum interface via = allocated ? c->allocated_via : c->bound_via;
    struct channel_status status;
    uint32_t port;

    switch (step->action) {
    case ACTION_CLOSE_OR_BIND:
        if (c->bound_via != NONE)
            close_or_bind(a, c, step->value);
        return;
    case ACTION_REALLOCATE:
        if (c->allocated_via != NONE)
            reallocate(a, c);
        return;
    case ACTION_UNMASK:
    case ACTION_BIND_VCPU:
    case ACTION_SET_PRIORITY:
        if (via == RAW) {
            change_pinned(a, p, step->action, step->value);
            return;
        }
        break; /* a port of the device is Linux's to change: read its events instead */
    case ACTION_SEND:
    case ACTION_STATUS:
    case ACTION_POLL:
        port = current(p);
        if (!port)
            return;
        if (step->action == ACTION_SEND)
            send_event(a, c, via, port, step->value);
        else if (step->action == ACTION_STATUS)
            raw_status(a, port, &status);
        else
            raw_poll(a, port);
        return;
    default:
        break;
    }
    read_events(a, handle_of(c));
}

/* --- before and after --- */

int pool_allocate(struct actor *a)
{
    for (unsigned i = 0; i < channel_count; i++)
        if (channels[i].allocated_via != NONE) {
            int port = allocate(a, &channels[i]);
            if (port < 0)
                return port;
            channels[i].allocated.port = (uint32_t)port;
        }
    return 0;
}

int pool_drain(struct actor *a, unsigned quiet_ms)
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
