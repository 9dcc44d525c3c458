/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The little of xenstore that the agent needs: a domU writes a key, and dom0 reads it. */
#ifndef AGENT_XENSTORE_H
#define AGENT_XENSTORE_H

#include <stddef.h>

/* Both return 0 or -errno (-ENOENT: no such key).  A relative path is that of our own domain. */
int xenstore_write(const char *path, const char *value);
int xenstore_read(const char *path, char *value, size_t room);

#endif
