/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests whose memory Xen translates: PVH, HVM, and all on Arm.  Memory is mapped one to one, so a
 * frame is an address >> 12; what Xen shares appears at frames of our choice.
 */
#include "xen.h"

#define ADD_TO_PHYSMAP 7u /* of MEMORY_OP */
#define SPACE_SHARED_INFO 0u
#define SPACE_GRANT_TABLE 1u
#define GET_PARAM 1u /* of HVM_OP */
#define PARAM_XENSTORE_FRAME 1u
#define PARAM_XENSTORE_PORT 2u

int cpu_start_other(void);
void *cpu_read_only(const volatile void *memory);

static uint64_t frame(const volatile void *memory)
{
    return (uintptr_t)memory / PAGE_BYTES;
}

static void add(uint32_t space, void *page)
{
    struct {
        uint16_t domid;
        uint16_t size;
        uint32_t space;
        uint64_t index;
        uint64_t frame;
    } add = {DOMID_SELF, 0, space, 0, frame(page)};

    hypercall(MEMORY_OP, ADD_TO_PHYSMAP, &add, NULL);
}

static void map_shared_info(void *page)
{
    add(SPACE_SHARED_INFO, page);
}

static void map_grants(void *page)
{
    add(SPACE_GRANT_TABLE, page);
}

static uint64_t parameter(uint32_t index)
{
    struct {
        uint16_t domid;
        uint32_t index;
        uint64_t value;
    } get = {DOMID_SELF, index, 0};

    hypercall(HVM_OP, GET_PARAM, &get, NULL);
    return get.value;
}

static void *map_xenstore(uint32_t *port)
{
    *port = (uint32_t)parameter(PARAM_XENSTORE_PORT);
    return (void *)(uintptr_t)(parameter(PARAM_XENSTORE_FRAME) * PAGE_BYTES);
}

const struct platform hvm = {
    frame, cpu_read_only, map_shared_info, map_grants, map_xenstore, cpu_start_other,
};
