/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A two-way stream of bytes: stdin/stdout in dom0, two rings in shared pages in a domU. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include <stddef.h>
#include <sys/types.h>

struct stream {
    /* Up to `room` bytes; waits for the first.  0: the other side is gone. */
    ssize_t (*read)(struct stream *s, void *bytes, size_t room);
    /* All of them.  -1: the other side is gone. */
    int (*write)(struct stream *s, const void *bytes, size_t count);
};

#endif
