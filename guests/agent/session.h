/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One conversation with the host. */
#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

#include "command.h"
#include "stream.h"

#define PROTOCOL_VERSION 1

struct session {
    struct stream *stream;
    int ended;
};

/* Print one answer line.  "ok ..." when error is 0, else "err errno=... ...". */
__attribute__((format(printf, 3, 4))) void answer(struct session *s, int error, const char *format,
                                                  ...);

/* A command and what it is called. */
struct verb {
    const char *name;
    void (*run)(struct session *s, struct command *c);
};

extern const struct verb load_verbs[]; /* load.c; ends with a NULL name */

/* Say which argument is wrong, if one is.  Returns non-zero when it has answered. */
int refuse(struct session *s, struct command *c);

/* Start the agent's own threads.  Returns 0 or -errno. */
int agent_start(void);

/* Talk until the other side is gone, then stop every load and close every port. */
void converse(struct stream *stream);

#endif
