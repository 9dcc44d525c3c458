/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests whose memory Xen translates: PVH, HVM, and all on Arm.  Our code maps memory one to one,
 * so a frame is an address >> 12.  We choose the frames at which Xen's shared pages appear.
 */
#include <stddef.h>

#include "../agent/record.h"
#include "cpu.h"
#include "platform.h"

static uint64_t frame(const volatile void *memory)
{
    return (uintptr_t)memory / PAGE_BYTES;
}

static void add_to_physmap(uint32_t space, void *page)
{
    struct {
        uint16_t domid;
        uint16_t size;
        uint32_t space;
        uint64_t index;
        uint64_t frame;
    } add = {DOMID_SELF, 0, space, 0, frame(page)};

    hypercall(HYPERCALL_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &add, NULL);
}

static void map_shared_info(void *page)
{
    add_to_physmap(XENMAPSPACE_SHARED_INFO, page);
}

static void map_grant_table(void *page)
{
    add_to_physmap(XENMAPSPACE_GRANT_TABLE, page);
}

static uint64_t parameter(uint32_t index)
{
    struct {
        uint16_t domid;
        uint32_t index;
        uint64_t value;
    } get = {DOMID_SELF, index, 0};

    hypercall(HYPERCALL_HVM_OP, HVMOP_GET_PARAM, &get, NULL);
    return get.value;
}

static void *map_xenstore(uint32_t *port)
{
    *port = (uint32_t)parameter(HVM_PARAM_STORE_EVTCHN);
    return (void *)(uintptr_t)(parameter(HVM_PARAM_STORE_PFN) * PAGE_BYTES);
}

const struct platform hvm = {
    .start = cpu_start,
    .start_second_vcpu = cpu_start_second_vcpu,
    .frame = frame,
    .read_only = cpu_read_only,
    .map_shared_info = map_shared_info,
    .map_grant_table = map_grant_table,
    .map_xenstore = map_xenstore,
};
