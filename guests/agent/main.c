/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest agent: see docs/agent-protocol.md. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent_commands.h"
#include "domu.h"
#include "load_commands.h"
#include "operation_commands.h"
#include "port_list.h"
#include "programme.h"
#include "race_stress.h"
#include "relay.h"

/* Every command of docs/agent-protocol.md belongs to one of these. */
static const command_group groups[] = {
    agent_commands, operation_commands, load_commands, race_commands, programme_commands, NULL,
};
static const struct service service = {groups, agent_session_closed};

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

    session_run(&stream, &service);
    return 0;
}

/* Start the agent, and then what makes it talk: in dom0 or in a domU.  Returns an exit status. */
static int run_agent(bool in_domu)
{
    int error = agent_start();

    if (error) {
        fprintf(stderr, "agent: cannot start: %s\n", strerror(-error));
        return 1;
    }
    return in_domu ? domu_main(&service) : serve();
}

static int usage(void)
{
    fputs("usage: agent serve\n"
          "       agent domu\n"
          "       agent relay --domid N\n"
          "       agent ports DOMID\n",
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
    unsigned domid = 0;

    if (count != 2 || strcmp(words[0], "--domid") != 0 || number(words[1], &domid) < 0 || !domid)
        return usage();
    return relay_main(domid);
}

static int ports(const char *word)
{
    unsigned domid;

    return number(word, &domid) < 0 ? usage() : port_list_main((uint16_t)domid);
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 2 && strcmp(words[1], "serve") == 0)
        return run_agent(false);
    if (count == 2 && strcmp(words[1], "domu") == 0)
        return run_agent(true);
    if (count > 2 && strcmp(words[1], "relay") == 0)
        return relay(count - 2, words + 2);
    if (count == 3 && strcmp(words[1], "ports") == 0)
        return ports(words[2]);
    return usage();
}
