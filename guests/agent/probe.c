/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe.h"

#include <errno.h>
#include <string.h>

#include "ports.h"

#define NO_FRAME 0xfffffffffull


static int event_channel_op(struct actor *a, unsigned command)
{
    return actor_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, command);
}

int probe_bind_pirq(struct actor *a, struct request *q)
{
    int result;

    a->arg->bind_pirq.pirq = q->a;
    a->arg->bind_pirq.flags = q->b;
    result = event_channel_op(a, EVTCHNOP_BIND_PIRQ);
    if (result == 0) {
        result = (int)a->arg->bind_pirq.port;
        port_is_raw(result);
    }
    return result;
}

int probe_irq_unmask_notify(struct actor *a, struct request *q)
{
    (void)q;
    return actor_hypercall(a, HYPERCALL_PHYSDEV_OP, PHYSDEVOP_IRQ_UNMASK_NOTIFY);
}

static int reset(struct actor *a, uint32_t domain, unsigned command)
{
    if (domain == DOMID_SELF || (int)domain == own_domid(a))
        return -EPERM;
    a->arg->reset.domid = (uint16_t)domain;
    return event_channel_op(a, command);
}

int probe_reset(struct actor *a, struct request *q)
{
    return reset(a, q->a, EVTCHNOP_RESET);
}

int probe_reset_cont(struct actor *a, struct request *q)
{
    return reset(a, q->a, EVTCHNOP_RESET_CONT);
}

int probe_init_control(struct actor *a, struct request *q)
{
    a->arg->init_control.frame = NO_FRAME;
    a->arg->init_control.offset = q->b;
    a->arg->init_control.vcpu = q->a;
    return event_channel_op(a, EVTCHNOP_INIT_CONTROL);
}

int probe_expand_array(struct actor *a, struct request *q)
{
    (void)q;
    a->arg->expand_array.frame = NO_FRAME;
    return event_channel_op(a, EVTCHNOP_EXPAND_ARRAY);
}

int probe_command(struct actor *a, struct request *q)
{
    return q->a < EVTCHNOP_FIRST_UNKNOWN ? -EPERM : event_channel_op(a, q->a);
}

/* A wrong version is refused with EACCES, and changes nothing. */
static int domctl(struct actor *a, uint32_t command, uint32_t domain)
{
    int result = -EACCES;

    for (uint32_t version = 0x10; version < 0x30 && result == -EACCES; version++) {
        a->arg->domctl.command = command;
        a->arg->domctl.version = version;
        a->arg->domctl.domain = (uint16_t)domain;
        memset(a->arg->domctl.pad, 0, sizeof(a->arg->domctl.pad));
        result = actor_hypercall(a, HYPERCALL_DOMCTL, (uintptr_t)a->arg);
    }
    return result;
}

static int watch_requests(struct actor *a, uint32_t domain, bool enable)
{
    memset(&a->arg->domctl, 0, sizeof(a->arg->domctl));
    a->arg->domctl.u.monitor.op = !enable;
    a->arg->domctl.u.monitor.event = MONITOR_GUEST_REQUEST;
    return domctl(a, DOMCTL_MONITOR, domain);
}

int probe_monitor(struct actor *a, struct request *q)
{
    int result, port;

    if (!q->b)
        watch_requests(a, q->a, false);
    memset(&a->arg->domctl, 0, sizeof(a->arg->domctl));
    a->arg->domctl.u.vm_event.op = !q->b;
    a->arg->domctl.u.vm_event.mode = VM_EVENT_MONITOR;
    result = domctl(a, DOMCTL_VM_EVENT, q->a);
    port = (int)a->arg->domctl.u.vm_event.port;
    if (result == 0 && q->b)
        result = watch_requests(a, q->a, true);
    return result ? result : q->b ? port : 0;
}

int probe_fill(struct actor *a, struct request *q)
{
    uint32_t count;

    memset(q->ports, 0, 3 * sizeof(*q->ports));
    for (count = 0; count < q->a; count++) {
        int port = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);
        if (port < 0) {
            q->ports[2] = (uint32_t)-port;
            break;
        }
        if (count == 0)
            q->ports[0] = (uint32_t)port;
        q->ports[1] = (uint32_t)port;
    }
    q->count = 3;
    return (int)count;
}

int probe_survey(struct actor *a, struct request *q)
{
    uint32_t port = q->a;

    for (q->count = 0; q->count + PROBE_WORDS <= MAX_EVENTS; port++) {
        struct channel_status status;
        uint32_t *words = q->ports + q->count;
        int result = raw_status_of(a, (uint16_t)q->b, port, &status);
        if (result == -EINVAL) {
            q->a = 0;
            return (int)port;
        }
        if (result == -EACCES)
            status.state = PROBE_HIDDEN;
        else if (result < 0)
            return result;
        if (status.state == EVTCHNSTAT_CLOSED)
            continue;
        words[0] = port;
        words[1] = status.state;
        words[2] = status.vcpu;
        words[3] = status.remote;
        words[4] = status.detail;
        q->count += PROBE_WORDS;
    }
    q->a = 1;
    return (int)port;
}
