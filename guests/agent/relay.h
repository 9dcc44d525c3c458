/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AGENT_RELAY_H
#define AGENT_RELAY_H

/*
 * In dom0: copy bytes between stdin and stdout and the agent in domain `domid`, once it has
 * appeared in xenstore.  Returns an exit status: 0 when stdin has ended; 3, with a message
 * on stderr, when the agent does not appear or its heartbeat stops.
 */
int relay_main(unsigned domid);

#endif
