/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Closing everything that is still open. */
#ifndef AGENT_RELEASE_H
#define AGENT_RELEASE_H

#include "vcpu_worker.h"

/*
 * Close every port the agent owns, then ask Xen about every port it ever owned.  Ports that
 * are not closed are put into job->ports (at most MAX_EVENTS); job->a says how many were asked.
 */
int release_all(struct actor *a, struct job *job);

#endif
