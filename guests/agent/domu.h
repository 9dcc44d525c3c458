/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AGENT_DOMU_H
#define AGENT_DOMU_H

#include "session.h"

/*
 * Grant dom0 two rings of bytes, and run a session through them with one relay after the other.
 * Returns only when that cannot be set up: an exit status.
 */
int domu_main(const struct service *service);

#endif
