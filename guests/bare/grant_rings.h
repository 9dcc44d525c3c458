/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages with the rings that dom0's relay reads and writes (guests/agent/shared.h). */
#ifndef BARE_GRANT_RINGS_H
#define BARE_GRANT_RINGS_H

#include "../agent/shared.h"
#include "../agent/steps.h"

/*
 * Grant the control page and the pages of the rings to dom0, and leave the number of the control
 * page's grant in xenstore.  Returns the control page; the rings' pages follow it in memory, in
 * the order of its grants.
 */
struct control *grant_rings(void);

/* The page in which steps of two sides meet, and its grant to dom0; 0: there is no dom0. */
struct meeting_place *meeting_place(void);
uint32_t meeting_grant(void);

#endif
