/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "workload.h"

/* The output function of the SplitMix64 generator. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t draw(struct workload *w)
{
    w->state += 0x9e3779b97f4a7c15u;
    return mix(w->state);
}

void workload_start(struct workload *w, uint64_t seed, uint32_t agent, uint32_t thread,
                    uint32_t channels)
{
    w->state = mix(seed + mix((uint64_t)agent << 32 | (thread + 1)));
    w->channels = channels;
}

struct step workload_next(struct workload *w)
{
    uint64_t bits = draw(w);
    unsigned lot = bits & 127;
    struct step step = {0, (uint32_t)(bits >> 7 & 0xffffff) % w->channels, (uint32_t)(bits >> 32)};

    while (lot >= action_weight[step.action])
        lot -= action_weight[step.action++];
    return step;
}

uint64_t workload_digest(struct workload w, uint64_t steps)
{
    uint64_t digest = 0;

    while (steps--) {
        struct step step = workload_next(&w);
        digest =
            mix(digest ^ (step.action | (uint64_t)step.channel << 8 | (uint64_t)step.value << 32));
    }
    return digest;
}
