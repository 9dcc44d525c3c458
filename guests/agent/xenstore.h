/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Just enough xenstore to leave a note for dom0, and to read it there. */
#ifndef AGENT_XENSTORE_H
#define AGENT_XENSTORE_H

#include <stddef.h>

/* Both return 0 or -errno (-ENOENT: no such key).  Paths may be relative to the own domain. */
int xenstore_write(const char *path, const char *value);
int xenstore_read(const char *path, char *value, size_t room);

#endif
