/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the calling thread runs, and before whom. */
#ifndef AGENT_THREAD_H
#define AGENT_THREAD_H

#include <stdbool.h>

/* Pin the calling thread to a vCPU.  Returns 0 or -errno. */
int thread_pin(unsigned vcpu);

/*
 * Put the calling thread before others (the one that answers the host, while load threads use
 * all vCPUs), or back among them.  Threads that it makes inherit this.
 */
void thread_urgent(bool urgent);

#endif
