/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command: one line `verb key=value key=value ...` (docs/agent-protocol.md). */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#define MAX_LINE 8192u
#define MAX_WORDS 24u

struct command {
    const char *verb;
    const char *bad; /* the first argument that is missing, wrong or unknown; NULL: none is */
    size_t count;
    struct {
        const char *key;
        const char *value;
        int used;
    } words[MAX_WORDS];
};

/* Parse `line`, which is changed.  Returns 0, or -1 when it is no command. */
int command_parse(struct command *c, char *line);

/* The value of an argument.  If it is missing or wrong, c->bad is set. */
uint64_t required(struct command *c, const char *key, uint64_t max);
uint64_t optional(struct command *c, const char *key, uint64_t max, uint64_t otherwise);
const char *text(struct command *c, const char *key, const char *otherwise);

/* A list of numbers separated by commas; returns how many. */
size_t numbers(struct command *c, const char *key, uint32_t *values, size_t room);

/*
 * To be called after all arguments have been asked for.  Returns 0, or -1 with c->bad set when one
 * is missing or wrong, or the line has one that nobody has asked for.
 */
int command_complete(struct command *c);

#endif
