/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a load thread does: an endless sequence of steps that follows from a seed alone.
 * harness/agent/workload.py computes the same; a test compares the two.
 */
#ifndef AGENT_WORKLOAD_H
#define AGENT_WORKLOAD_H

#include <stdint.h>

enum action {
    ACTION_SEND,
    ACTION_STATUS,
    ACTION_POLL,
    ACTION_UNMASK,
    ACTION_BIND_VCPU,
    ACTION_SET_PRIORITY,
    ACTION_READ, /* read events from the device, and enable their ports again */
    ACTION_CLOSE_OR_BIND, /* close the channel's bound port; if there is none, bind one */
    ACTION_REALLOCATE, /* close the port that others bind to, and allocate another */
    ACTIONS,
};

/* How often, of 128. */
static const uint8_t action_weight[ACTIONS] = {72, 8, 4, 8, 4, 4, 4, 20, 4};

struct workload {
    uint64_t state; /* of the random numbers */
    uint32_t channels;
};

struct step {
    uint8_t action;
    uint32_t channel;
    uint32_t value; /* chooses which port of the channel, which vCPU, priority or remote port */
};

/* The workload of `thread` of agent number `agent` in the load, over so many channels. */
void workload_start(struct workload *w, uint64_t seed, uint32_t agent, uint32_t thread,
                    uint32_t channels);

struct step workload_next(struct workload *w);

/* A digest of the first `steps` steps. */
uint64_t workload_digest(struct workload w, uint64_t steps);

#endif
