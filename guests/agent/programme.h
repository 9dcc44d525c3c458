/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command `programme`: steps of dom0's that meet those of the bare guest (steps.h). */
#ifndef AGENT_PROGRAMME_H
#define AGENT_PROGRAMME_H

#include "session.h"

bool programme_commands(struct session *s, struct command *c);

#endif
