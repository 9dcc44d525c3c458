/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's protocol (docs/agent-protocol.md) over the rings that dom0's relay reads. */
#ifndef BARE_TALK_H
#define BARE_TALK_H

#include "xen.h"

#define WORDS 16u

struct command {
    const char *verb;
    unsigned count;
    struct {
        const char *key, *value;
    } words[WORDS];
    const char *bad; /* the first argument that is missing or no number */
};

/* Wait for the next command of whichever relay is there.  It is good until the next call. */
struct command *listen(struct control *control);

/* Whether a relay has come since this was last asked: the one before may have left ports. */
bool newcomer(void);

/* The value of an argument; without `otherwise` it must be there. */
#define REQUIRED UINT64_MAX
uint64_t number(struct command *c, const char *key, uint64_t otherwise);
const char *word(struct command *c, const char *key, const char *otherwise);
unsigned numbers(struct command *c, const char *key, uint32_t *values, unsigned room);

/* An answer is begun, gets its words, and is ended. */
void answer_ok(void);
void answer_error(unsigned error, const char *what);
void say(const char *key, uint64_t value);
void say_word(const char *key, const char *value);
void say_list(const char *key, const uint32_t *values, unsigned count);
void answer_end(struct control *control);

#endif
