/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which ports are ours, so that all of them can be closed in the end.
 *
 * Xen gives a port before we can write down whose it is, and another thread may close it and be
 * given the same number in between.  So what is kept says who *may* have a port: every handle
 * that was ever answered with it and has not given it back.
 */
#ifndef AGENT_PORTS_H
#define AGENT_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#define MAX_PORTS 131072u
#define HANDLES 16u /* bits of a set of handles */

enum { OWNED_RAW = 1, OWNED_DEVICE = 2, EVER_OWNED = 4 };

uint8_t port_owner(uint32_t port);    /* a set of the above */
uint16_t port_handles(uint32_t port); /* bit N: handle N may have it */
void forget_closed_ports(void);       /* "ever owned" counts from here */

/* After the call that gave the port; a negative one, an error, is nobody's. */
void port_is_raw(int port);
void port_is_of(int port, unsigned handle);

/*
 * Before the close: another thread may be given the number as soon as Xen has freed it.  Says
 * whether the port was ours; if then the close fails, it is to be taken again.
 */
bool port_release_raw(uint32_t port);
bool port_release_of(uint32_t port, unsigned handle);

#endif
