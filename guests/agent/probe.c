/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe.h"

#include <errno.h>
#include <string.h>

#include "hypercall.h"
#include "ports.h"

#define NO_FRAME 0xfffffffffull

static int event_channel_op(struct actor *a, unsigned command)
{
    return actor_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, command);
}

int probe_bind_pirq(struct actor *a, struct job *job)
{
    int result;

    a->arg->bind_pirq.pirq = job->a;
    a->arg->bind_pirq.flags = job->b;
    result = event_channel_op(a, EVTCHNOP_BIND_PIRQ);
    if (result == 0) {
        result = (int)a->arg->bind_pirq.port;
        port_add_raw(result);
    }
    return result;
}

int probe_irq_unmask_notify(struct actor *a, struct job *job)
{
    (void)job;
    return actor_hypercall(a, HYPERCALL_PHYSDEV_OP, PHYSDEVOP_IRQ_UNMASK_NOTIFY);
}

int probe_dump_irqs(struct actor *a, struct job *job)
{
    (void)job;
    return raw_debug_key(a, 'i');
}

static int reset(struct actor *a, uint32_t domain, unsigned command)
{
    if (domain == DOMID_SELF || (int)domain == own_domid(a))
        return -EPERM;
    a->arg->reset.domid = (uint16_t)domain;
    return event_channel_op(a, command);
}

int probe_reset(struct actor *a, struct job *job)
{
    return reset(a, job->a, EVTCHNOP_RESET);
}

int probe_reset_cont(struct actor *a, struct job *job)
{
    return reset(a, job->a, EVTCHNOP_RESET_CONT);
}

uint64_t probe_own_frame(void)
{
    const void *page = hypercall_page();

    return page ? hypercall_frame(page) : 0;
}

static uint64_t frame(const struct job *job)
{
    return job->frame ? job->frame : NO_FRAME;
}

int probe_init_control(struct actor *a, struct job *job)
{
    a->arg->init_control.frame = frame(job);
    a->arg->init_control.offset = job->b;
    a->arg->init_control.vcpu = job->a;
    return event_channel_op(a, EVTCHNOP_INIT_CONTROL);
}

int probe_expand_array(struct actor *a, struct job *job)
{
    a->arg->expand_array.frame = frame(job);
    return event_channel_op(a, EVTCHNOP_EXPAND_ARRAY);
}

int probe_unknown_command(struct actor *a, struct job *job)
{
    return job->a < EVTCHNOP_FIRST_UNKNOWN ? -EPERM : event_channel_op(a, job->a);
}

/*
 * The version of the interface differs from release to release, and we do not know which one this
 * is: try all of them.  Xen refuses a wrong one with EACCES before it does anything.
 */
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

int probe_monitor(struct actor *a, struct job *job)
{
    int result, port;

    if (!job->b)
        watch_requests(a, job->a, false);
    memset(&a->arg->domctl, 0, sizeof(a->arg->domctl));
    a->arg->domctl.u.vm_event.op = !job->b;
    a->arg->domctl.u.vm_event.mode = VM_EVENT_MONITOR;
    result = domctl(a, DOMCTL_VM_EVENT, job->a);
    port = (int)a->arg->domctl.u.vm_event.port;
    if (result == 0 && job->b)
        result = watch_requests(a, job->a, true);
    return result ? result : job->b ? port : 0;
}

int probe_fill(struct actor *a, struct job *job)
{
    uint32_t count;

    memset(job->numbers, 0, 3 * sizeof(*job->numbers));
    for (count = 0; count < job->a; count++) {
        int port = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);
        if (port < 0) {
            job->numbers[2] = (uint32_t)-port;
            break;
        }
        if (count == 0)
            job->numbers[0] = (uint32_t)port;
        job->numbers[1] = (uint32_t)port;
    }
    job->count = 3;
    return (int)count;
}

int probe_list_ports(struct actor *a, struct job *job)
{
    uint32_t port = job->a;

    for (job->count = 0; job->count + WORDS_PER_PORT <= MAX_NUMBERS; port++) {
        struct channel_status status;
        uint32_t *words = job->numbers + job->count;
        int result = raw_status_of(a, (uint16_t)job->b, port, &status);
        if (result == -EINVAL) {
            job->a = 0;
            return (int)port;
        }
        if (result == -EACCES)
            status.state = PORT_HIDDEN;
        else if (result < 0)
            return result;
        if (status.state == EVTCHNSTAT_CLOSED)
            continue;
        words[0] = port;
        words[1] = status.state;
        words[2] = status.vcpu;
        words[3] = status.remote;
        words[4] = status.detail;
        job->count += WORDS_PER_PORT;
    }
    job->a = 1;
    return (int)port;
}
