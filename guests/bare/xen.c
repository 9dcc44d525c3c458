/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xen.h"

#include <stdbool.h>

#include "../agent/record.h"
#include "events.h"
#include "platform.h"

#define STEP_NS 100000000ull
#define ASLEEP_NS 5000000ull /* a poll that takes longer may have slept */
#define NAP_NS 10000000ull
#define SHORT_NAP_NS 8500000ull /* a nap of NAP_NS that takes less has ended too early */
#define NAPS 5u /* a busy machine makes short naps look long, but not that many in a row */

static char shared_info[PAGE_BYTES] PAGE_ALIGNED;
static struct vcpu_info infos[VCPUS] PAGE_ALIGNED;
struct vcpu_info *const vcpu_info[VCPUS] = {&infos[0], &infos[1]};
static uint64_t time_at_tick_0;
/* Under TCG xen-shim may sleep for ever: the interrupt of its timer does not come. */
static bool stays_awake;

/* Have Xen use our memory as that vCPU's vcpu_info; its upcall is masked, so it never comes. */
static void register_vcpu_info(unsigned vcpu)
{
    struct {
        uint64_t frame;
        uint32_t offset;
        uint32_t reserved;
    } place = {platform()->frame(&infos[vcpu]), (uintptr_t)&infos[vcpu] % PAGE_BYTES, 0};

    hypercall(HYPERCALL_VCPU_OP, VCPUOP_REGISTER_VCPU_INFO, (void *)(uintptr_t)vcpu, &place);
    infos[vcpu].upcall_mask = 1;
}

volatile uint64_t *bitmap(enum bitmap which)
{
    return (volatile uint64_t *)(shared_info + bitmaps_offset) + which * BITMAP_WORDS;
}

/* A SCHEDOP_poll of no port: it ends at that time, or with an upcall. */
static void sleep_until(uint64_t time)
{
    union hypercall_arg arg = {.poll = {0, 0, time}};

    hypercall(HYPERCALL_SCHED_OP, SCHEDOP_POLL, &arg, NULL);
}

uint64_t ticks_hz(void)
{
    return cpu_ticks_hz(vcpu_info[0]);
}

static uint64_t ns_of(uint64_t count)
{
    uint64_t hz = ticks_hz();

    return count / hz * 1000000000 + count % hz * 1000000000 / hz;
}

uint64_t xen_time(void)
{
    uint64_t now;

    return cpu_xen_time(vcpu_info[0], &now) ? now : time_at_tick_0 + ns_of(ticks());
}

/* Returns how long that took, in ns. */
static uint64_t slept_until(uint64_t time)
{
    uint64_t before = ticks();

    sleep_until(time);
    return ns_of(ticks() - before);
}

/* Whether naps are as long as they should be: a short one shows that Xen's time is ahead. */
static bool naps_last(uint64_t *shortest)
{
    *shortest = UINT64_MAX;
    for (unsigned i = 0; i < NAPS; i++) {
        uint64_t nap = slept_until(xen_time() + NAP_NS);
        if (nap < SHORT_NAP_NS)
            return false;
        if (nap < *shortest)
            *shortest = nap;
    }
    return true;
}

/*
 * Find out Xen's time where nothing tells it (arm64).  A poll with a time-out that is already past
 * returns at once, and one that sleeps ends exactly at its time-out.  So poll with ever later
 * time-outs until one sleeps: now it is that time.  A poll may also take long because another had
 * the CPU; then the naps that follow are too short.
 */
static void learn_time(void)
{
    uint64_t time = 0, shortest;

    do {
        do
            time += STEP_NS;
        while (slept_until(time) < ASLEEP_NS);
        time_at_tick_0 = time - ns_of(ticks());
    } while (!naps_last(&shortest));
    /* We woke late then; a nap that was woken from with less delay is too short by the difference. */
    if (shortest < NAP_NS)
        time_at_tick_0 += NAP_NS - shortest;
}

/* It knows no priorities at all: Xen answers something else. */
static bool inside_shim(void)
{
    union hypercall_arg arg = {.port_value = {0, 0}};

    return event_channel_op(EVTCHNOP_SET_PRIORITY, &arg) == -EOPNOTSUPP;
}

void sleep_ns(uint64_t ns)
{
    if (ns && !stays_awake)
        sleep_until(xen_time() + ns);
    else
        hypercall(HYPERCALL_SCHED_OP, SCHEDOP_YIELD, NULL, NULL);
}

int xen_version(void)
{
    return (int)hypercall(HYPERCALL_XEN_VERSION, XENVER_VERSION, NULL, NULL);
}

void xen_start(void)
{
    uint64_t now;

    platform()->start();
    stays_awake = inside_shim();
    platform()->map_shared_info(shared_info);
    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++)
        register_vcpu_info(vcpu);
    if (!cpu_xen_time(vcpu_info[0], &now))
        learn_time();
}
