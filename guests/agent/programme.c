/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "programme.h"

/* The output function of the SplitMix64 generator. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t draw(struct programme *p)
{
    p->state += 0x9e3779b97f4a7c15u;
    return mix(p->state);
}

void programme_start(struct programme *p, uint64_t seed, uint32_t actor, uint32_t thread,
                     uint32_t slots)
{
    p->state = mix(seed + mix((uint64_t)actor << 32 | (thread + 1)));
    p->slots = slots;
}

struct step programme_next(struct programme *p)
{
    uint64_t bits = draw(p);
    unsigned lot = bits & 127;
    struct step step = {0, (uint32_t)(bits >> 7 & 0xffffff) % p->slots, (uint32_t)(bits >> 32)};

    while (lot >= action_weight[step.action])
        lot -= action_weight[step.action++];
    return step;
}

uint64_t programme_digest(struct programme p, uint64_t steps)
{
    uint64_t digest = 0;

    while (steps--) {
        struct step step = programme_next(&p);
        digest = mix(digest ^ (step.action | (uint64_t)step.slot << 8 | (uint64_t)step.value << 32));
    }
    return digest;
}
