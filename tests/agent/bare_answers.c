/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bare guest's commands and answers, as a program of this computer: commands come on stdin, as
 * through the ring, and answers go to stdout.  Its Xen has one IPI channel, and a clock that only
 * goes on in a poll.
 */
#include <stdio.h>

#include "memory.h"
#include "ops.h"
#include "platform.h"
#include "xen.h"

#define IPI_PORT 5u
#define HIDDEN_PORT 6u
#define EACCES 13
#define POLL_NS 40000u /* how long a poll takes that does not sleep */

static struct vcpu_info infos[VCPUS];
struct vcpu_info *const vcpu_info[VCPUS] = {&infos[0], &infos[1]};
static uint64_t bits[2][BITMAP_WORDS], now = 1000000;
static bool open;

volatile uint64_t *bitmap(enum bitmap which)
{
    return bits[which];
}

uint64_t ticks(void)
{
    return now;
}

uint64_t xen_time(void)
{
    return now;
}

void sleep_ns(uint64_t ns)
{
    now += ns;
}

const struct platform *platform(void)
{
    return NULL; /* nothing here needs another page */
}

static int64_t status(union hypercall_arg *arg)
{
    if (arg->status.port == HIDDEN_PORT)
        return -EACCES;
    arg->status.state = arg->status.port == IPI_PORT && open ? EVTCHNSTAT_IPI : EVTCHNSTAT_CLOSED;
    arg->status.vcpu = arg->status.port == IPI_PORT && open;
    return 0;
}

static int64_t send(uint32_t port)
{
    if (port != IPI_PORT || !open)
        return -EINVAL;
    bits[PENDING_BITMAP][0] |= 1u << port;
    infos[1].pending_sel |= 1;
    infos[1].upcall_pending = 1;
    return 0;
}

static int64_t poll(const union hypercall_arg *arg)
{
    const uint32_t *ports = (const uint32_t *)arg->poll.ports;
    bool pending = arg->poll.count && bits[PENDING_BITMAP][0] >> ports[0] & 1;

    now += POLL_NS;
    if (!pending && arg->poll.timeout > now)
        now = arg->poll.timeout;
    return 0;
}

int64_t hypercall(enum hypercall number, uint64_t a, const volatile void *b, const volatile void *c)
{
    union hypercall_arg *arg = (union hypercall_arg *)(uintptr_t)b;

    (void)c;
    if (number == HYPERCALL_SCHED_OP)
        return poll(arg);
    switch (a) {
    case EVTCHNOP_BIND_IPI:
        open = true;
        arg->bind_ipi.port = IPI_PORT;
        return 0;
    case EVTCHNOP_SEND:
        return send(arg->one_port.port);
    case EVTCHNOP_STATUS:
        return status(arg);
    default:
        return -ENOSYS;
    }
}

int main(void)
{
    static _Alignas(PAGE_BYTES) char pages[(1 + SHARED_PAGES) * PAGE_BYTES];
    struct control *control = (struct control *)pages;
    size_t count = fread(pages + PAGE_BYTES, 1, PAGES_TO_DOMU * PAGE_BYTES, stdin);

    ring_produce(&control->to_domu, count);
    while (control->to_domu.consumed != control->to_domu.produced) {
        struct job job = {.command = next_command(control)};
        if (!make_operation(&job))
            answer_error(ENOSYS, "verb");
        answer_send(control);
    }
    fwrite(pages + (1 + PAGES_TO_DOMU) * PAGE_BYTES, 1, control->to_dom0.produced, stdout);
    return 0;
}
