/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One conversation with the host: lines with commands come in, each gets one answer.  Which
 * commands there are is not known here: whoever starts a session says so.
 */
#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

#include <stdbool.h>

#include "command.h"
#include "stream.h"

struct session {
    struct stream *stream;
    bool ended; /* set by the command `quit`, or because the other side is gone */
    char bytes[4096]; /* that were read, */
    size_t at, filled; /* and how far they have been taken */
};

/* Carries out `c` and answers it, if it is one of its own commands; says whether it is. */
typedef bool (*command_group)(struct session *s, struct command *c);

/* What a session can do. */
struct service {
    const command_group *groups; /* the last one is NULL */
    void (*closed)(void); /* called once after the session has ended */
};

/* Answer commands until the other side is gone or has said `quit`. */
void session_run(struct stream *stream, const struct service *service);

/*
 * Take the bytes that follow a command; NULL: throw them away.  If the other side is gone before
 * they are all there, the session has ended.
 */
void next_bytes(struct session *s, void *to, size_t count);

/* Write one answer line: "ok ..." when error is 0, else "err errno=... ...". */
__attribute__((format(printf, 3, 4))) void answer(struct session *s, int error, const char *format,
                                                  ...);

/* Write bytes that follow an answer line with bytes=N. */
void answer_bytes(struct session *s, const void *bytes, size_t count);

/* Answer that an argument is wrong, if one is.  Returns whether it has answered. */
bool refuse(struct session *s, struct command *c);

/* The name of a command, and what carries it out. */
struct verb {
    const char *name;
    void (*run)(struct session *s, struct command *c);
};

/* A command group made of a table, whose last name is NULL. */
bool run_verb(const struct verb *table, struct session *s, struct command *c);

#endif
