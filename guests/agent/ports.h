/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who owns which port, so that all of them can be closed in the end: hypercalls ("raw"), or
 * handles of the device.
 *
 * A thread gets a port from Xen first and writes down afterwards who owns it.  In between another
 * thread may close the port and be given the same number.  So what is written down is who *may*
 * own a port: everybody who was ever given it and has not given it back.
 */
#ifndef AGENT_PORTS_H
#define AGENT_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#define MAX_PORTS 131072u
#define HANDLES 16u /* open files of the device; a set of them is a word of so many bits */

enum { OWNED_RAW = 1, OWNED_DEVICE = 2, EVER_OWNED = 4 };

uint8_t port_owner(uint32_t port); /* a set of the above */
uint16_t port_handles(uint32_t port); /* bit N: handle N may own it */
void forget_closed_ports(void); /* they are not EVER_OWNED any more */

/* To be called when a call has returned the port.  It may have returned an error: negative. */
void port_add_raw(int port);
void port_add_handle(int port, unsigned handle);

/*
 * To be called before the port is closed, because another thread may be given its number as soon
 * as Xen has freed it.  Returns whether the port was owned so; if the close then fails, add it
 * again.
 */
bool port_remove_raw(uint32_t port);
bool port_remove_handle(uint32_t port, unsigned handle);

#endif
