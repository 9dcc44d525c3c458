/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In dom0: pages that another domain has granted, through /dev/xen/gntdev. */
#ifndef AGENT_GRANT_MAP_H
#define AGENT_GRANT_MAP_H

#include <stdint.h>

/*
 * Map the pages with these grants, one behind the other; `fd` is an open /dev/xen/gntdev.  NULL
 * with errno if they cannot be mapped.  When they are unmapped and fd is closed, Xen lets go of
 * them.
 */
void *grant_map(int fd, unsigned domid, const uint32_t *refs, uint32_t count);

#endif
