/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the bare guest (guest.c) and QEMU's emulation of Xen (qemu.c).  Both have Xen's public
 * headers, each its own, so nothing of these headers is here.
 */
#ifndef EMULATION_H
#define EMULATION_H

#include <stddef.h>
#include <stdint.h>

#define EMULATED_VCPUS 2

/* An address with this bit set is that of the same memory, which the guest may not write to. */
#define READ_ONLY (1ull << 62)

/* Make the event channels of a guest with that shared info page and these vcpu_info structures. */
void emulation_start(void *shared_info, void *const vcpu_info[EMULATED_VCPUS]);

/* Have QEMU handle the hypercall of that vCPU.  Nothing is mapped at the address `unmapped`. */
int64_t emulation_hypercall(unsigned vcpu, unsigned number, uint64_t a, uint64_t b,
                            uint64_t unmapped);

/*
 * QEMU is in the place of dom0: bind one of its ports to that port of the guest, send from it, close
 * it, take its event.  Returns the new port, 0, for the last one whether there was an event; or
 * -errno.
 */
int emulation_dom0_bind(uint32_t guest_port);
int emulation_dom0_send(uint32_t port);
int emulation_dom0_close(uint32_t port);
int emulation_dom0_take(uint32_t port);

#endif
