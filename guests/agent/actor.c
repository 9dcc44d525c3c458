/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "actor.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "hypercall.h"

#define NOT_MAPPED ((void *)16)

int actor_create(struct actor *a, uint16_t thread, uint16_t vcpu, size_t records)
{
    memset(a, 0, sizeof(*a));
    a->domid = UNKNOWN_DOMID;
    a->thread = thread;
    a->vcpu = vcpu;
    a->arg = hypercall_page();
    return a->arg ? buffer_create(&a->log, records) : -ENOMEM;
}

void actor_destroy(struct actor *a)
{
    munmap(a->arg, PAGE_BYTES);
    if (a->read_only)
        munmap(a->read_only, PAGE_BYTES);
    buffer_destroy(&a->log);
}

void actor_restart(struct actor *a, uint32_t run)
{
    struct page_header head = {
        .tick_hz = ticks_hz(),
        .run = run,
        .domid = a->domid,
        .thread = a->thread,
        .vcpu = a->vcpu,
    };
    buffer_restart(&a->log, &head);
}

/* A copy of the argument that Xen can only read. */
static void *read_only_copy(struct actor *a)
{
    if (!a->read_only)
        a->read_only = hypercall_page();
    if (!a->read_only || mprotect(a->read_only, PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
        return NOT_MAPPED;
    memcpy(a->read_only, a->arg, PAGE_BYTES);
    mprotect(a->read_only, PAGE_BYTES, PROT_READ);
    return a->read_only;
}

static void *argument(struct actor *a)
{
    switch (a->fault) {
    case FAULT_IN:
        return NOT_MAPPED;
    case FAULT_OUT:
        return read_only_copy(a);
    default:
        return a->arg;
    }
}

int actor_hypercall(struct actor *a, uint64_t number, uint64_t first)
{
    return hypercall(number, first, argument(a));
}
