/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest agent: see docs/agent-protocol.md. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "domu.h"
#include "relay.h"
#include "session.h"

#define RELAY_WAIT_S 20u

static ssize_t read_stdin(struct stream *s, void *bytes, size_t room)
{
    ssize_t got;

    (void)s;
    do
        got = read(STDIN_FILENO, bytes, room);
    while (got < 0 && errno == EINTR);
    return got;
}

static int write_stdout(struct stream *s, const void *bytes, size_t count)
{
    const char *at = bytes;

    (void)s;
    while (count) {
        ssize_t done = write(STDOUT_FILENO, at, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return -1;
        at += done;
        count -= (size_t)done;
    }
    return 0;
}

static int serve(void)
{
    struct stream stream = {read_stdin, write_stdout};
    int error = agent_start();

    if (error) {
        fprintf(stderr, "agent: cannot start: %s\n", strerror(-error));
        return 1;
    }
    converse(&stream);
    return 0;
}

static int usage(void)
{
    fputs("usage: agent serve\n"
          "       agent domu\n"
          "       agent relay --domid N [--wait SECONDS]\n",
          stderr);
    return 2;
}

static int number(const char *word, unsigned *value)
{
    char *end;

    errno = 0;
    *value = (unsigned)strtoul(word, &end, 10);
    return errno || *end || end == word ? -1 : 0;
}

static int relay(int count, char **words)
{
    unsigned domid = 0, wait_s = RELAY_WAIT_S;

    for (int i = 0; i + 1 < count; i += 2) {
        unsigned *value = strcmp(words[i], "--domid") == 0  ? &domid
                          : strcmp(words[i], "--wait") == 0 ? &wait_s
                                                            : NULL;
        if (!value || number(words[i + 1], value) < 0)
            return usage();
    }
    return count % 2 || !domid ? usage() : relay_main(domid, wait_s);
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 2 && strcmp(words[1], "serve") == 0)
        return serve();
    if (count == 2 && strcmp(words[1], "domu") == 0)
        return domu_main();
    if (count > 2 && strcmp(words[1], "relay") == 0)
        return relay(count - 2, words + 2);
    return usage();
}
