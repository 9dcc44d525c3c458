/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Closing everything that is still open. */
#ifndef AGENT_RELEASE_H
#define AGENT_RELEASE_H

#include "vcpu_worker.h"

/*
 * Close every port that the agent owns, then ask Xen about every port that it has owned since the
 * last call.  job->numbers: those that are not closed (at most MAX_NUMBERS); job->a: how many Xen
 * was asked about.  Returns how many are not closed.
 */
int release_all(struct actor *a, struct job *job);

#endif
