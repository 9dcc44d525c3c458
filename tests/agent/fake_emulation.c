/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An emulation that the bare guest can be linked to, and that is not QEMU's: ports are 10 for vCPU 0
 * and 11 for vCPU 1, and a send sets the port's bit in the bitmap.
 */
#include "emulation.h"

#include "../agent/xen_abi.h"

#define EFAULT 14
#define EINVAL 22
#define BITMAP (32 * 64 / 8) /* in the shared info page, in words of 64 bits */

static uint64_t *info;

void emulation_start(void *shared_info, void *const vcpu_info[EMULATED_VCPUS])
{
    (void)vcpu_info;
    info = shared_info;
}

int emulation_dom0_bind(uint32_t guest_port)
{
    return (int)guest_port + 20;
}

int emulation_dom0_send(uint32_t port)
{
    return port ? 0 : -EINVAL;
}

int emulation_dom0_close(uint32_t port)
{
    return emulation_dom0_send(port);
}

int emulation_dom0_take(uint32_t port)
{
    return port == 21;
}

int64_t emulation_hypercall(unsigned vcpu, unsigned number, uint64_t a, uint64_t b,
                            uint64_t unmapped)
{
    union hypercall_arg *arg = (union hypercall_arg *)(uintptr_t)b;

    if (number != HYPERCALL_EVENT_CHANNEL_OP)
        return 0;
    if (b == unmapped || (b & READ_ONLY))
        return -EFAULT;
    switch (a) {
    case EVTCHNOP_ALLOC_UNBOUND:
        arg->alloc_unbound.port = 10 + vcpu;
        return 0;
    case EVTCHNOP_STATUS:
        arg->status.state = EVTCHNSTAT_UNBOUND;
        arg->status.u.unbound.remote = 1;
        return 0;
    case EVTCHNOP_SEND:
        info[BITMAP] |= 1ull << arg->one_port.port;
        return 0;
    case EVTCHNOP_CLOSE:
        return 0;
    }
    return -EINVAL;
}
