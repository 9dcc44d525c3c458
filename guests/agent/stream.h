/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A two-way stream of bytes: stdin and stdout in dom0, two rings in shared pages in a domU. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include <stddef.h>
#include <sys/types.h>

struct stream {
    /* Wait for bytes and read at most `room` of them.  Returns 0 when the other side is gone. */
    ssize_t (*read)(struct stream *s, void *bytes, size_t room);
    /* Write all bytes.  Returns -1 when the other side is gone. */
    int (*write)(struct stream *s, const void *bytes, size_t count);
};

#endif
