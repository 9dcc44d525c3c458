/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load_commands.h"

#include <errno.h>
#include <stdio.h>

#include "load.h"
#include "ticks.h"
#include "vcpu_worker.h"
#include "workload.h"

#define NOTABLE_MS 100u /* an operation in flight for longer is reported */
#define MAX_RECORDS (8u << 20)

static const char *const state_name[] = {
    [LOAD_IDLE] = "idle",
    [LOAD_READY] = "ready",
    [LOAD_RUNNING] = "running",
    [LOAD_STOPPED] = "stopped",
};

/* " ports_1=20,21 ports_2=22,23": for each peer, the ports that it may bind to. */
static void print_ports(char *line, size_t room, const struct pool_plan *plan)
{
    size_t n = 0;

    for (unsigned i = 0; i < plan->peers; i++) {
        uint32_t ports[MAX_PEER_PORTS];
        unsigned count = pool_ports_for(plan->peer[i], ports);
        n += (size_t)snprintf(line + n, room - n, " ports_%u=", plan->peer[i]);
        for (unsigned k = 0; k < count; k++)
            n += (size_t)snprintf(line + n, room - n, k ? ",%u" : "%u", ports[k]);
    }
}

static void begin(struct session *s, struct command *c)
{
    uint32_t peers[MAX_PEERS];
    char ports[MAX_LINE / 2] = "";
    struct load_plan plan = {
        .seed = required(c, "seed", UINT64_MAX),
        .agent = (uint32_t)required(c, "agent", UINT32_MAX),
        .run = (uint32_t)required(c, "run", UINT32_MAX),
        .threads = (unsigned)required(c, "threads", MAX_THREADS),
        .records = required(c, "records", MAX_RECORDS),
        .pool = {
            .raw = (unsigned)required(c, "raw", MAX_CHANNELS),
            .device = (unsigned)required(c, "device", MAX_CHANNELS),
            .cross = (unsigned)required(c, "cross", MAX_PEER_PORTS / 2),
            .virq = (unsigned)required(c, "virq", MAX_CHANNELS),
            .peers = (unsigned)numbers(c, "peers", peers, MAX_PEERS),
        },
    };
    int result;

    for (unsigned i = 0; i < plan.pool.peers; i++)
        plan.pool.peer[i] = (uint16_t)peers[i];
    if (refuse(s, c))
        return;
    if (load_alive()) {
        answer(s, EBUSY, "what=load");
        return;
    }
    result = load_prepare(&plan);
    if (result < 0) {
        load_stop();
        answer(s, -result, "what=load_begin");
        return;
    }
    print_ports(ports, sizeof(ports), &plan.pool);
    answer(s, 0, "channels=%d first_thread=%u%s", result, workers_count(), ports);
}

static void peer(struct session *s, struct command *c)
{
    uint16_t domid = (uint16_t)required(c, "domid", UINT16_MAX);
    uint32_t ports[MAX_PEER_PORTS];
    unsigned count = (unsigned)numbers(c, "ports", ports, MAX_PEER_PORTS);
    int error;

    if (refuse(s, c))
        return;
    error = pool_set_peer_ports(domid, ports, count);
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

/* Every operation in flight for a notable time, as thread:operation:port:milliseconds,... */
static void print_in_flight(char *line, size_t room, uint64_t hz)
{
    uint64_t now = ticks();
    size_t n = 0;

    line[0] = '\0';
    for (unsigned i = 0; i < workers_count() + load_threads() && n < room - 64; i++) {
        bool single = i < workers_count();
        const struct actor *a = single ? worker_actor(i) : load_actor(i - workers_count());
        const struct record *r = record_in_flight(&a->log);
        uint64_t ms = r && now > r->call ? (now - r->call) / (hz / 1000) : 0;
        if (ms >= NOTABLE_MS)
            n += (size_t)snprintf(line + n, room - n, "%s%u:%u:%u:%llu", n ? "," : "", i, r->op,
                                  r->port, (unsigned long long)ms);
    }
}

static void status(struct session *s, struct command *c)
{
    char done[MAX_THREADS * 21], in_flight[MAX_LINE / 4];
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
    print_in_flight(in_flight, sizeof(in_flight), ticks_hz());
    answer(s, 0, "state=%s alive=%u full=%u operations=%s in_flight=%s", state_name[load_state()],
           alive, full, done, in_flight);
}

static void stop(struct session *s, struct command *c)
{
    char stuck[MAX_THREADS * 4] = "";
    size_t n = 0;

    if (refuse(s, c))
        return;
    load_stop();
    for (unsigned i = 0; i < load_threads(); i++)
        if (load_thread_alive(i))
            n += (size_t)snprintf(stuck + n, sizeof(stuck) - n, n ? ",%u" : "%u",
                                  workers_count() + i);
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

static void digest(struct session *s, struct command *c)
{
    struct workload w;
    uint64_t seed = required(c, "seed", UINT64_MAX);
    uint32_t agent = (uint32_t)required(c, "agent", UINT32_MAX);
    uint32_t thread = (uint32_t)required(c, "thread", UINT32_MAX);
    uint32_t channels = (uint32_t)required(c, "channels", MAX_CHANNELS);
    uint64_t steps = required(c, "steps", 10000000);

    if (refuse(s, c))
        return;
    if (channels == 0) {
        answer(s, EINVAL, "what=argument-channels");
        return;
    }
    workload_start(&w, seed, agent, thread, channels);
    answer(s, 0, "digest=%llu", (unsigned long long)workload_digest(w, steps));
}

static const struct verb verbs[] = {
    {"load_begin", begin},
    {"load_peer", peer},
    {"load_go", go},
    {"load_status", status},
    {"load_stop", stop},
    {"load_drain", drain},
    {"workload_digest", digest},
    {NULL, NULL},
};

bool load_commands(struct session *s, struct command *c)
{
    return run_verb(verbs, s, c);
}
