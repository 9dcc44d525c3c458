/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two vCPUs race for one channel's lock: one takes its read side without pause, the other its
 * write side.  In a load this happens by chance; here nothing else happens.
 */
#ifndef AGENT_RACE_STRESS_H
#define AGENT_RACE_STRESS_H

#include "session.h"

/* race kind=close|unmask|dump ms=N [seed=S] [pirq=P] */
bool race_commands(struct session *s, struct command *c);

#endif
