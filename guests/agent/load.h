/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The load: threads pinned to vCPUs, each following its programme over the shared slots. */
#ifndef AGENT_LOAD_H
#define AGENT_LOAD_H

#include "ops.h"

/* The actor of the load's thread `index`, or NULL. */
struct actor *load_actor(unsigned index);

/* Ask all threads to end and wait a little, but not for those that are stuck. */
void load_abandon(void);

#endif
