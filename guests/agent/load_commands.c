/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load_commands.h"

#include <errno.h>
#include <stdio.h>

#include "hands.h"
#include "load.h"
#include "programme.h"

#define NOTABLE_MS 100u /* an operation in flight for longer is told of */
#define MAX_RECORDS (8u << 20)

static const char *const state_name[] = {
    [LOAD_IDLE] = "idle",
    [LOAD_READY] = "ready",
    [LOAD_RUNNING] = "running",
    [LOAD_STOPPED] = "stopped",
};

static size_t print_anchors(char *line, size_t room, const struct slot_plan *plan)
{
    size_t n = 0;

    for (unsigned i = 0; i < plan->peers; i++) {
        uint32_t ports[MAX_ANCHORS];
        unsigned count = slots_anchors(plan->peer[i], ports);
        n += (size_t)snprintf(line + n, room - n, " anchors_%u=", plan->peer[i]);
        for (unsigned k = 0; k < count; k++)
            n += (size_t)snprintf(line + n, room - n, k ? ",%u" : "%u", ports[k]);
    }
    return n;
}

static void begin(struct session *s, struct command *c)
{
    uint32_t peers[MAX_PEERS];
    char anchors[MAX_LINE / 2] = "";
    struct load_plan plan = {
        .seed = required(c, "seed", UINT64_MAX),
        .actor = (uint32_t)required(c, "actor", UINT32_MAX),
        .run = (uint32_t)required(c, "run", UINT32_MAX),
        .threads = (unsigned)required(c, "threads", MAX_THREADS),
        .records = required(c, "records", MAX_RECORDS),
        .slots = {
            .raw = (unsigned)required(c, "raw", MAX_SLOTS),
            .device = (unsigned)required(c, "device", MAX_SLOTS),
            .cross = (unsigned)required(c, "cross", MAX_ANCHORS / 2),
            .virq = (unsigned)required(c, "virq", MAX_SLOTS),
            .peers = (unsigned)numbers(c, "peers", peers, MAX_PEERS),
        },
    };
    int result;

    for (unsigned i = 0; i < plan.slots.peers; i++)
        plan.slots.peer[i] = (uint16_t)peers[i];
    if (refuse(s, c))
        return;
    if (load_alive()) {
        answer(s, EBUSY, "what=load");
        return;
    }
    result = load_prepare(&plan);
    if (result < 0) {
        load_abandon();
        answer(s, -result, "what=load_begin");
        return;
    }
    print_anchors(anchors, sizeof(anchors), &plan.slots);
    answer(s, 0, "slots=%d first_thread=%u%s", result, hands_count(), anchors);
}

static void peer(struct session *s, struct command *c)
{
    uint16_t domid = (uint16_t)required(c, "domid", UINT16_MAX);
    uint32_t ports[MAX_ANCHORS];
    unsigned count = (unsigned)numbers(c, "ports", ports, MAX_ANCHORS);
    int error;

    if (refuse(s, c))
        return;
    error = slots_peer(domid, ports, count);
    if (error)
        answer(s, -error, "what=domid");
    else
        answer(s, 0, "peer=%u", domid);
}

static void go(struct session *s, struct command *c)
{
    int error;

    if (refuse(s, c))
        return;
    error = load_start();
    if (error)
        answer(s, -error, "what=not-ready");
    else
        answer(s, 0, "threads=%u", load_threads());
}

/* What has been in flight for a notable time, as thread:operation:port:milliseconds,... */
static void print_in_flight(char *line, size_t room, uint64_t hz)
{
    uint64_t now = ticks();
    size_t n = 0;

    line[0] = '\0';
    for (unsigned i = 0; i < hands_count() + load_threads() && n < room - 64; i++) {
        const struct actor *a = i < hands_count() ? hand_actor(i) : load_actor(i - hands_count());
        const struct record *r = record_in_flight(&a->log);
        uint64_t ms = r && now > r->call ? (now - r->call) / (hz / 1000) : 0;
        if (ms >= NOTABLE_MS)
            n += (size_t)snprintf(line + n, room - n, "%s%u:%u:%u:%llu", n ? "," : "", i, r->op,
                                  r->port, (unsigned long long)ms);
    }
}

static void status(struct session *s, struct command *c)
{
    char done[MAX_THREADS * 21], flying[MAX_LINE / 4];
    unsigned alive = 0, full = 0;
    size_t n = 0;

    if (refuse(s, c))
        return;
    done[0] = '\0';
    for (unsigned i = 0; i < load_threads(); i++) {
        uint64_t count = __atomic_load_n(&load_actor(i)->log.done, __ATOMIC_RELAXED);
        alive += load_thread_alive(i);
        full += load_thread_full(i);
        n += (size_t)snprintf(done + n, sizeof(done) - n, i ? ",%llu" : "%llu",
                              (unsigned long long)count);
    }
    print_in_flight(flying, sizeof(flying), ticks_hz());
    answer(s, 0, "state=%s alive=%u full=%u operations=%s flying=%s", state_name[load_state()],
           alive, full, done, flying);
}

static void stop(struct session *s, struct command *c)
{
    char stuck[MAX_THREADS * 4] = "";
    size_t n = 0;

    if (refuse(s, c))
        return;
    load_abandon();
    for (unsigned i = 0; i < load_threads(); i++)
        if (load_thread_alive(i))
            n += (size_t)snprintf(stuck + n, sizeof(stuck) - n, n ? ",%u" : "%u",
                                  hands_count() + i);
    answer(s, 0, "stuck=%s", stuck);
}

static void drain(struct session *s, struct command *c)
{
    unsigned quiet_ms = (unsigned)required(c, "quiet_ms", 10000);
    int result;

    if (refuse(s, c))
        return;
    result = load_drain(quiet_ms);
    if (result < 0)
        answer(s, -result, "what=drain");
    else
        answer(s, 0, "events=%d", result);
}

static void programme(struct session *s, struct command *c)
{
    struct programme p;
    uint64_t seed = required(c, "seed", UINT64_MAX);
    uint32_t actor = (uint32_t)required(c, "actor", UINT32_MAX);
    uint32_t thread = (uint32_t)required(c, "thread", UINT32_MAX);
    uint32_t slots = (uint32_t)required(c, "slots", MAX_SLOTS);
    uint64_t steps = required(c, "steps", 10000000);

    if (refuse(s, c))
        return;
    if (slots == 0) {
        answer(s, EINVAL, "what=argument-slots");
        return;
    }
    programme_start(&p, seed, actor, thread, slots);
    answer(s, 0, "digest=%llu", (unsigned long long)programme_digest(p, steps));
}

static const struct verb verbs[] = {
    {"load_begin", begin},
    {"load_peer", peer},
    {"load_go", go},
    {"load_status", status},
    {"load_stop", stop},
    {"load_drain", drain},
    {"programme", programme},
    {NULL, NULL},
};

bool load_commands(struct session *s, struct command *c)
{
    return run_verb(verbs, s, c);
}
