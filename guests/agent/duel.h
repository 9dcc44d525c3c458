/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two vCPUs at one channel's lock: one keeps reading it, the other keeps writing it.  A load
 * meets such moments by chance, a duel is made of nothing else.
 */
#ifndef AGENT_DUEL_H
#define AGENT_DUEL_H

#include "session.h"

/* duel kind=close|unmask ms=N [seed=S] */
bool duel_commands(struct session *s, struct command *c);

#endif
