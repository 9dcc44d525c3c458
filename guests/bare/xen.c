/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xen.h"

#define STEP_NS 100000000ull
#define ASLEEP_NS 5000000ull /* a poll that takes longer may have slept */
#define NAP_NS 10000000ull
#define SHORT_NAP_NS 8500000ull /* ... as it has if naps of NAP_NS are no shorter */
#define NAPS 5u /* a busy machine makes short ones look long, but not that many in a row */

static char shared_info[PAGE_BYTES] PAGE;
static struct vcpu_info infos[VCPUS] PAGE;
struct vcpu_info *const vcpu_info[VCPUS] = {&infos[0], &infos[1]};
static uint64_t time_at_tick_0;

/* Its memory is at hand, and no event ever calls it. */
static void vcpu_register(unsigned vcpu)
{
    struct {
        uint64_t frame;
        uint32_t offset;
        uint32_t reserved;
    } place = {platform->frame(&infos[vcpu]), (uintptr_t)&infos[vcpu] % PAGE_BYTES, 0};

    hypercall(VCPU_OP, REGISTER_VCPU_INFO, (void *)(uintptr_t)vcpu, &place);
    infos[vcpu].upcall_mask = 1;
}

volatile uint64_t *bitmap(unsigned which)
{
    return (volatile uint64_t *)(shared_info + bitmaps_at) + which * 64;
}

static void sleep_until(uint64_t time)
{
    struct {
        uint64_t ports;
        uint32_t count;
        uint64_t timeout;
    } poll = {0, 0, time};

    hypercall(SCHED_OP, POLL, &poll, NULL);
}

static uint64_t ns_of(uint64_t count)
{
    uint64_t hz = ticks_hz();

    return count / hz * 1000000000 + count % hz * 1000000000 / hz;
}

uint64_t xen_time(void)
{
    return time_at_tick_0 + ns_of(ticks());
}

static uint64_t slept_until(uint64_t time)
{
    uint64_t before = ticks();

    sleep_until(time);
    return ns_of(ticks() - before);
}

/* A nap that is too short tells that Xen's time is later than we think. */
static bool naps_last(void)
{
    for (unsigned i = 0; i < NAPS; i++)
        if (slept_until(xen_time() + NAP_NS) < SHORT_NAP_NS)
            return false;
    return true;
}

/*
 * Nobody tells a guest Xen's time on both architectures alike; but a poll ends when it comes.
 * One that took long may only have waited for a CPU: then naps do not last.
 */
static void learn_time(void)
{
    uint64_t time = 0;

    do {
        do
            time += STEP_NS;
        while (slept_until(time) < ASLEEP_NS);
        time_at_tick_0 = time - ns_of(ticks());
    } while (!naps_last());
}

void doze(uint64_t ns)
{
    if (ns)
        sleep_until(xen_time() + ns);
    else
        hypercall(SCHED_OP, YIELD, NULL, NULL);
}

int xen_version(void)
{
    return (int)hypercall(XEN_VERSION, 0, NULL, NULL);
}

void xen_start(void)
{
    cpu_start();
    platform->map_shared_info(shared_info);
    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++)
        vcpu_register(vcpu);
    learn_time();
}
