/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AGENT_DOMU_H
#define AGENT_DOMU_H

#include "session.h"

/*
 * Offer dom0 two rings of bytes in granted pages, and run a session through them with one relay
 * after the other.  Returns an exit status, and only when that cannot be set up.
 */
int domu_main(const struct service *service);

#endif
