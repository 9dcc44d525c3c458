/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int command_parse(struct command *c, char *line)
{
    char *rest = line;
    char *word;

    memset(c, 0, sizeof(*c));
    for (const char *p = line; *p; p++)
        if (*p < ' ' || *p > '~')
            return -1;
    while ((word = strsep(&rest, " ")) != NULL) {
        char *value;
        if (!*word)
            continue;
        if (!c->verb) {
            c->verb = word;
            continue;
        }
        value = strchr(word, '=');
        if (!value || value == word || c->count == MAX_WORDS)
            return -1;
        *value++ = '\0';
        c->words[c->count].key = word;
        c->words[c->count].value = value;
        c->count++;
    }
    return c->verb ? 0 : -1;
}

static void blame(struct command *c, const char *key)
{
    if (!c->bad)
        c->bad = key;
}

const char *text(struct command *c, const char *key, const char *otherwise)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->words[i].key, key) == 0) {
            c->words[i].used = 1;
            return c->words[i].value;
        }
    return otherwise;
}

static int parse(const char *word, char **end, uint64_t max, uint64_t *value)
{
    if (*word < '0' || *word > '9') /* strtoull() would accept signs and blanks */
        return -1;
    errno = 0;
    *value = strtoull(word, end, 0);
    return errno || *value > max ? -1 : 0;
}

uint64_t optional(struct command *c, const char *key, uint64_t max, uint64_t otherwise)
{
    const char *word = text(c, key, NULL);
    uint64_t value;
    char *end;

    if (!word)
        return otherwise;
    if (parse(word, &end, max, &value) < 0 || *end) {
        blame(c, key);
        return otherwise;
    }
    return value;
}

uint64_t required(struct command *c, const char *key, uint64_t max)
{
    if (!text(c, key, NULL))
        blame(c, key);
    return optional(c, key, max, 0);
}

size_t numbers(struct command *c, const char *key, uint32_t *values, size_t room)
{
    const char *word = text(c, key, NULL);
    size_t count = 0;

    if (!word || !*word)
        return 0;
    for (;;) {
        uint64_t value;
        char *end;
        if (count == room || parse(word, &end, UINT32_MAX, &value) < 0 || (*end && *end != ',')) {
            blame(c, key);
            return 0;
        }
        values[count++] = (uint32_t)value;
        if (!*end)
            return count;
        word = end + 1;
    }
}

int command_complete(struct command *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (!c->words[i].used)
            blame(c, c->words[i].key);
    return c->bad ? -1 : 0;
}
