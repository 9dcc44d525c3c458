/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent itself: its start, its end, and the commands about it and its domain. */
#ifndef AGENT_AGENT_COMMANDS_H
#define AGENT_AGENT_COMMANDS_H

#include "session.h"

/* Open the devices and start the agent's threads.  Returns 0 or -errno. */
int agent_start(void);

/* hello, ticks, clock, bench, release, forget, collect, debug_key, interrupts, quit. */
bool agent_commands(struct session *s, struct command *c);

/* Stop the load and close every port: nobody is there any more who could ask for it. */
void agent_session_closed(void);

#endif
