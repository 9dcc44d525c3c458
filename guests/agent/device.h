/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event channel operations through /dev/xen/evtchn.  Each is recorded, and returns what Linux
 * said: a value >= 0 (the new port where there is one), or -errno.
 *
 * A handle is one open file of the device, with ports of its own; it is opened when first used.
 */
#ifndef AGENT_DEVICE_H
#define AGENT_DEVICE_H

#include "actor.h"
#include "ports.h" /* HANDLES: how many there are */

int device_bind_unbound(struct actor *a, unsigned handle, uint16_t remote);
int device_bind_interdomain(struct actor *a, unsigned handle, uint16_t remote,
                            uint32_t remote_port);
int device_bind_virq(struct actor *a, unsigned handle, uint32_t virq);
int device_unbind(struct actor *a, unsigned handle, uint32_t port);
int device_notify(struct actor *a, unsigned handle, uint32_t port);
/* Writes ports back, which lets their next event through.  One record per port. */
int device_enable(struct actor *a, unsigned handle, const uint32_t *ports, unsigned count);
/*
 * Reads up to `room` events, waiting up to timeout_ms for the first.  One record per event.
 * Returns how many, 0 when none came.
 */
int device_read(struct actor *a, unsigned handle, uint32_t *ports, unsigned room, int timeout_ms);

#endif
