/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's protocol (docs/agent-protocol.md) over the rings that dom0's relay reads: commands
 * are taken apart, and answers are put together.
 */
#ifndef BARE_PROTOCOL_H
#define BARE_PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>

#include "../agent/shared.h"

#define MAX_WORDS 16u

struct command {
    const char *verb;
    unsigned count;
    struct {
        const char *key, *value;
    } words[MAX_WORDS];
    const char *bad; /* an argument that is missing or no number; NULL: all are good so far */
};

/* Wait for the next command of whichever relay is there.  It is good until the next call. */
struct command *next_command(struct control *control);

/* Read the `count` bytes that follow the command into `to`; NULL: drop them. */
void next_bytes(struct control *control, void *to, size_t count);

/* Whether another relay has come since this was last asked: the one before may have left ports. */
bool relay_is_new(void);

/* The value of an argument.  A missing or wrong one is noted in c->bad. */
uint64_t required(struct command *c, const char *key);
uint64_t optional(struct command *c, const char *key, uint64_t otherwise);
const char *text(struct command *c, const char *key, const char *otherwise);

/* A list of numbers separated by commas; returns how many. */
unsigned numbers(struct command *c, const char *key, uint32_t *values, unsigned room);

/* Begin an answer, add words to it, and send it.  Beginning it again forgets what was added. */
void answer_ok(void);
void answer_error(unsigned error, const char *what);
void answer_number(const char *key, uint64_t value);
void answer_more(uint64_t value); /* another number of the same word */
void answer_word(const char *key, const char *value);
void answer_numbers(const char *key, const uint32_t *values, unsigned count);
void answer_bytes(const void *bytes, size_t count); /* that follow the answer; not copied */
void answer_send(struct control *control);

#endif
