/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands that make one operation each, and `join`, which waits for one begun earlier. */
#ifndef AGENT_OPERATION_COMMANDS_H
#define AGENT_OPERATION_COMMANDS_H

#include "session.h"

bool operation_commands(struct session *s, struct command *c);

#endif
