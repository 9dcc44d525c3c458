/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What depends on who manages the guest's memory: Xen (hvm.c) or the guest (pv-x86_64.c). */
#ifndef BARE_PLATFORM_H
#define BARE_PLATFORM_H

#include <stdint.h>

struct platform {
    /* What has to be done before the first hypercall. */
    void (*start)(void);
    /* Start vCPU 1, in second_vcpu_main() and on a stack of its own.  Returns 0 or an error. */
    int (*start_second_vcpu)(void);
    /* The number by which Xen knows the page at that address. */
    uint64_t (*frame)(const volatile void *memory);
    /* Another address of the same memory, at which Xen may not write. */
    void *(*read_only)(const volatile void *memory);
    /* Make a page that Xen shares appear at this address. */
    void (*map_shared_info)(void *page);
    void (*map_grant_table)(void *page);
    /* Returns the address of xenstore's ring; *port is its event channel. */
    void *(*map_xenstore)(uint32_t *port);
};

extern const struct platform hvm; /* PVH, HVM, and every guest on Arm */
extern const struct platform pv;

/* The one that this guest has been booted as (platform-*.c). */
const struct platform *platform(void);

#endif
