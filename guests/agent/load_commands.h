/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load_begin, load_peer, load_go, load_status, load_stop, load_drain, workload_digest. */
#ifndef AGENT_LOAD_COMMANDS_H
#define AGENT_LOAD_COMMANDS_H

#include "session.h"

bool load_commands(struct session *s, struct command *c);

#endif
