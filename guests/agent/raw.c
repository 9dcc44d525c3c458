/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "raw.h"

#include <errno.h>
#include <string.h>

#include "hypercall.h"
#include "ports.h"

#define POLLED_AT (PAGE_BYTES / 2) /* in the argument's page: the ports to poll */

int xen_version(struct actor *a)
{
    return hypercall_ready() ? hypercall(HYPERCALL_XEN_VERSION, XENVER_VERSION, a->arg) : -ENODEV;
}

int own_domid(struct actor *a)
{
    struct channel_status status;
    int port;

    if (!hypercall_ready())
        return -ENODEV;
    if (a->domid != UNKNOWN_DOMID)
        return a->domid;
    port = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);
    if (port < 0)
        return port;
    if (raw_status(a, (uint32_t)port, &status) == 0)
        a->domid = (uint16_t)status.remote;
    raw_close(a, (uint32_t)port);
    return a->domid != UNKNOWN_DOMID ? a->domid : -ENODEV;
}

static int raw(struct actor *a, enum op op, uint32_t port, uint32_t arg, unsigned command)
{
    struct record *r = record_call(&a->log, op, VIA_RAW, port, arg, a->vcpu);
    int result = actor_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, command);

    record_return(&a->log, r, result);
    return result;
}

/* The same for an operation that makes a port, which Xen writes to *new_port. */
static int raw_new(struct actor *a, enum op op, uint32_t port, uint32_t arg, unsigned command,
                   const uint32_t *new_port)
{
    struct record *r = record_call(&a->log, op, VIA_RAW, port, arg, a->vcpu);
    int result = actor_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, command);

    if (result == 0)
        result = (int)*new_port;
    record_return(&a->log, r, result);
    return result;
}

int raw_alloc_unbound(struct actor *a, uint16_t owner, uint16_t remote)
{
    int port;

    a->arg->alloc_unbound.owner = owner;
    a->arg->alloc_unbound.remote = remote;
    port = raw_new(a, OP_ALLOC_UNBOUND, owner, remote, EVTCHNOP_ALLOC_UNBOUND,
                   &a->arg->alloc_unbound.port);
    if (owner == DOMID_SELF || owner == a->domid)
        port_add_raw(port);
    return port;
}

int raw_bind_interdomain(struct actor *a, uint16_t remote, uint32_t remote_port)
{
    int port;

    a->arg->bind_interdomain.remote = remote;
    a->arg->bind_interdomain.remote_port = remote_port;
    port = raw_new(a, OP_BIND_INTERDOMAIN, remote_port, remote, EVTCHNOP_BIND_INTERDOMAIN,
                   &a->arg->bind_interdomain.port);
    port_add_raw(port);
    return port;
}

int raw_bind_virq(struct actor *a, uint32_t virq, uint32_t vcpu)
{
    int port;

    a->arg->bind_virq.virq = virq;
    a->arg->bind_virq.vcpu = vcpu;
    port = raw_new(a, OP_BIND_VIRQ, virq, vcpu, EVTCHNOP_BIND_VIRQ, &a->arg->bind_virq.port);
    port_add_raw(port);
    return port;
}

int raw_bind_ipi(struct actor *a, uint32_t vcpu)
{
    int port;

    a->arg->bind_ipi.vcpu = vcpu;
    port = raw_new(a, OP_BIND_IPI, 0, vcpu, EVTCHNOP_BIND_IPI, &a->arg->bind_ipi.port);
    port_add_raw(port);
    return port;
}

int raw_close(struct actor *a, uint32_t port)
{
    bool ours;
    int result;

    if (port_owner(port) & OWNED_DEVICE)
        return -EPERM; /* Linux would not know that it is closed, and go on using it */
    ours = port_remove_raw(port);
    a->arg->one_port.port = port;
    result = raw(a, OP_CLOSE, port, 0, EVTCHNOP_CLOSE);
    if (result < 0 && ours)
        port_add_raw((int)port);
    return result;
}

int raw_send(struct actor *a, uint32_t port)
{
    a->arg->one_port.port = port;
    return raw(a, OP_SEND, port, 0, EVTCHNOP_SEND);
}

int raw_send_unrecorded(struct actor *a, uint32_t port)
{
    a->arg->one_port.port = port;
    return hypercall(HYPERCALL_EVENT_CHANNEL_OP, EVTCHNOP_SEND, a->arg);
}

int raw_status(struct actor *a, uint32_t port, struct channel_status *status)
{
    return raw_status_of(a, DOMID_SELF, port, status);
}

int raw_status_of(struct actor *a, uint16_t owner, uint32_t port, struct channel_status *status)
{
    struct record *r;
    int result;

    memset(a->arg, 0, sizeof(*a->arg));
    a->arg->status.owner = owner;
    a->arg->status.port = port;
    r = record_call(&a->log, OP_STATUS, VIA_RAW, port, 0, a->vcpu);
    result = actor_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, EVTCHNOP_STATUS);
    memset(status, 0, sizeof(*status));
    if (result == 0) {
        status->state = a->arg->status.state;
        status->vcpu = a->arg->status.vcpu;
        if (status->state == EVTCHNSTAT_UNBOUND)
            status->remote = a->arg->status.u.unbound.remote;
        if (status->state == EVTCHNSTAT_INTERDOMAIN) {
            status->remote = a->arg->status.u.interdomain.remote;
            status->detail = a->arg->status.u.interdomain.port;
        }
        if (status->state == EVTCHNSTAT_VIRQ || status->state == EVTCHNSTAT_PIRQ)
            status->detail = a->arg->status.u.irq;
        r->arg = status->detail;
        record_return(&a->log, r,
                      (int)(status->state | (status->vcpu & 0xff) << 8 | status->remote << 16));
    } else {
        record_return(&a->log, r, result);
    }
    return result;
}

int raw_bind_vcpu(struct actor *a, uint32_t port, uint32_t vcpu)
{
    a->arg->port_value.port = port;
    a->arg->port_value.value = vcpu;
    return raw(a, OP_BIND_VCPU, port, vcpu, EVTCHNOP_BIND_VCPU);
}

int raw_unmask(struct actor *a, uint32_t port)
{
    a->arg->one_port.port = port;
    return raw(a, OP_UNMASK, port, 0, EVTCHNOP_UNMASK);
}

int raw_set_priority(struct actor *a, uint32_t port, uint32_t priority)
{
    a->arg->port_value.port = port;
    a->arg->port_value.value = priority;
    return raw(a, OP_SET_PRIORITY, port, priority, EVTCHNOP_SET_PRIORITY);
}

int raw_debug_key(struct actor *a, char key)
{
    int result = -EACCES;

    /* Try every version of the interface: Xen refuses a wrong one with EACCES, and does nothing. */
    for (uint32_t version = 0x10; version < 0x30 && result == -EACCES; version++) {
        memset(a->arg, 0, sizeof(*a->arg));
        a->arg->debug_keys.command = SYSCTL_DEBUG_KEYS;
        a->arg->debug_keys.version = version;
        a->arg->debug_keys.keys = (uintptr_t)&a->arg->debug_keys.key;
        a->arg->debug_keys.count = 1;
        a->arg->debug_keys.key = key;
        result = hypercall_ready() ? hypercall(HYPERCALL_SYSCTL, (uintptr_t)a->arg, NULL) : -ENODEV;
    }
    return result;
}

/*
 * The time-out lies in the past, so the vCPU never sleeps for long.  No clock of the guest shows
 * Xen's system time: with a time-out in the future, a wrong guess would be a long sleep.
 */
int raw_poll(struct actor *a, uint32_t port)
{
    return raw_poll_many(a, &port, 1, 1); /* 0 would be no time-out at all */
}

int raw_poll_many(struct actor *a, const uint32_t *ports, unsigned count, uint64_t timeout)
{
    uint32_t *polled = (uint32_t *)((char *)a->arg + POLLED_AT);
    struct record *r;
    int result;

    memcpy(polled, ports, count * sizeof(*ports));
    a->arg->poll.ports = (uintptr_t)polled;
    a->arg->poll.count = count;
    a->arg->poll.timeout = timeout;
    r = record_call(&a->log, OP_POLL, VIA_RAW, count ? ports[0] : 0, 0, a->vcpu);
    result = actor_hypercall(a, HYPERCALL_SCHED_OP, SCHEDOP_POLL);
    record_return(&a->log, r, result);
    return result;
}
