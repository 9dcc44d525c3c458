/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single operations by name, and closing everything that is still open. */
#ifndef AGENT_SINGLE_H
#define AGENT_SINGLE_H

#include "hands.h"
#include "session.h"

/* Run the operation called c->verb.  Returns 0 when there is none of that name. */
int single_operation(struct session *s, struct command *c);

/* The same as a verb: wait for an operation that was begun earlier. */
void single_join(struct session *s, struct command *c);

/*
 * Close every port the agent owns, then ask Xen about every port it ever owned.  Ports that
 * are not closed are put into q->ports (at most MAX_EVENTS); q->a says how many were asked.
 */
int release_all(struct actor *a, struct request *q);

#endif
