/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AGENT_RELAY_H
#define AGENT_RELAY_H

/*
 * In dom0: carry bytes between stdin/stdout and the agent in domain `domid`, for whose note
 * in xenstore to wait at most wait_s seconds.  Returns an exit status: 0 when stdin ended,
 * 3 when the domU's agent is not there or has fallen silent (said on stderr).
 */
int relay_main(unsigned domid, unsigned wait_s);

#endif
