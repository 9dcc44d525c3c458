/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages with the rings that dom0's relay reads and writes (guests/agent/shared.h). */
#ifndef BARE_GRANT_RINGS_H
#define BARE_GRANT_RINGS_H

#include "../agent/shared.h"

/*
 * Grant the control page and the pages of the rings to dom0, and leave the number of the control
 * page's grant in xenstore.  Returns the control page; the rings' pages follow it in memory, in
 * the order of its grants.
 */
struct control *grant_rings(void);

#endif
