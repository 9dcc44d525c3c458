/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ports of a domain, for the leak check: asked without an agent, and so without a port of its own. */
#ifndef AGENT_PORT_LIST_H
#define AGENT_PORT_LIST_H

#include <stdint.h>

/*
 * Print a line for each port of the domain that is not closed: "PORT: WHAT".  Returns an exit
 * status.
 */
int port_list_main(uint16_t domid);

#endif
