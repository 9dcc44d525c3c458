/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void run_command(struct session *s, const struct service *service, char *line)
{
    struct command c;

    if (command_parse(&c, line) < 0) {
        answer(s, EINVAL, "what=syntax");
        return;
    }
    for (const command_group *group = service->groups; *group; group++)
        if ((*group)(s, &c))
            return;
    answer(s, ENOSYS, "what=verb");
}

/* Have at least one byte to take.  Returns false when the other side is gone. */
static bool fill(struct session *s)
{
    ssize_t got;

    if (s->at < s->filled)
        return true;
    got = s->stream->read(s->stream, s->bytes, sizeof(s->bytes));
    if (got <= 0)
        return false;
    s->at = 0;
    s->filled = (size_t)got;
    return true;
}

void session_run(struct stream *stream, const struct service *service)
{
    struct session s = {.stream = stream};
    char line[MAX_LINE];
    size_t length = 0;
    bool too_long = false;

    while (!s.ended && fill(&s)) {
        char byte = s.bytes[s.at++];
        if (byte != '\n') {
            if (length < sizeof(line) - 1)
                line[length++] = byte ? byte : '\1'; /* NUL must not hide the rest */
            else
                too_long = true;
            continue;
        }
        line[length] = '\0';
        if (too_long)
            answer(&s, EMSGSIZE, "what=line");
        else if (length)
            run_command(&s, service, line);
        length = 0;
        too_long = false;
    }
    service->closed();
}

void next_bytes(struct session *s, void *to, size_t count)
{
    for (size_t done = 0; done < count;) {
        size_t here;
        if (!fill(s)) {
            s->ended = true;
            return;
        }
        here = s->filled - s->at < count - done ? s->filled - s->at : count - done;
        if (to)
            memcpy((char *)to + done, s->bytes + s->at, here);
        s->at += here;
        done += here;
    }
}

void answer(struct session *s, int error, const char *format, ...)
{
    char line[MAX_LINE];
    size_t length = (size_t)(error ? snprintf(line, sizeof(line), "err errno=%d ", error)
                                   : snprintf(line, sizeof(line), "ok "));
    va_list arguments;

    va_start(arguments, format);
    length += (size_t)vsnprintf(line + length, sizeof(line) - length, format, arguments);
    va_end(arguments);
    if (length > sizeof(line) - 1)
        length = sizeof(line) - 1;
    line[length++] = '\n';
    answer_bytes(s, line, length);
}

void answer_bytes(struct session *s, const void *bytes, size_t count)
{
    if (s->stream->write(s->stream, bytes, count) < 0)
        s->ended = true;
}

bool refuse(struct session *s, struct command *c)
{
    if (command_complete(c) == 0)
        return false;
    answer(s, EINVAL, "what=argument-%s", c->bad);
    return true;
}

bool run_verb(const struct verb *table, struct session *s, struct command *c)
{
    for (; table->name; table++)
        if (strcmp(table->name, c->verb) == 0) {
            table->run(s, c);
            return true;
        }
    return false;
}
