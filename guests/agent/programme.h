/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a load thread is going to do, step by step, from a seed alone.
 * harness/agent/programme.py computes the same; a test compares the two.
 */
#ifndef AGENT_PROGRAMME_H
#define AGENT_PROGRAMME_H

#include <stdint.h>

enum action {
    ACTION_SEND,
    ACTION_STATUS,
    ACTION_POLL,
    ACTION_UNMASK,
    ACTION_BIND_VCPU,
    ACTION_SET_PRIORITY,
    ACTION_READ, /* take events from the device and enable them again */
    ACTION_TURN_END, /* close the end of a channel, or bind it anew */
    ACTION_TURN_ANCHOR, /* close the port that others bind to, and allocate another */
    ACTIONS,
};

/* How often, of 128. */
static const uint8_t action_weight[ACTIONS] = {72, 8, 4, 8, 4, 4, 4, 20, 4};

struct programme {
    uint64_t state;
    uint32_t slots;
};

struct step {
    uint8_t action;
    uint32_t slot;
    uint32_t value; /* which side, vCPU, priority, remote port: as the action needs */
};

/* The programme of `thread` of domain number `actor`, over `slots` channels. */
void programme_start(struct programme *p, uint64_t seed, uint32_t actor, uint32_t thread,
                     uint32_t slots);

struct step programme_next(struct programme *p);

/* A digest of the first `steps` steps. */
uint64_t programme_digest(struct programme p, uint64_t steps);

#endif
