/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single operations by name, and `join`, which waits for one that was begun earlier. */
#ifndef AGENT_OPERATION_COMMANDS_H
#define AGENT_OPERATION_COMMANDS_H

#include "session.h"

bool operation_commands(struct session *s, struct command *c);

#endif
