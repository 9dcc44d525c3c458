/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent_commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "hands.h"
#include "hypercall.h"
#include "kernel.h"
#include "load.h"
#include "ports.h"
#include "release.h"
#include "thread.h"
#include "ticks.h"

#if defined(__x86_64__)
#define ARCH "x86_64"
#else
#define ARCH "arm64"
#endif

#define PROTOCOL_VERSION 1
#define RELEASE_MS 7000u

static int own_id = -ENODEV;
static int version = -ENODEV;

int agent_start(void)
{
    unsigned vcpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    int error;

    ticks_start();
    thread_urgent(true);
    error = hypercall_open();
    if (hands_start(vcpus < MAX_VCPUS ? vcpus : MAX_VCPUS) < 0)
        return -ENOMEM;
    if (error == 0) {
        own_id = own_domid(hand_actor(0));
        version = xen_version(hand_actor(0));
        for (unsigned i = 0; i < hands_count(); i++) {
            if (own_id >= 0)
                hand_actor(i)->domid = (uint16_t)own_id;
            actor_restart(hand_actor(i), 0); /* without the records of own_domid() */
        }
        forget_closed_ports();
    }
    return 0;
}

void agent_session_closed(void)
{
    struct request q = {.run = release_all};

    load_abandon();
    if (own_id >= 0)
        hand_run(0, RELEASE_MS, &q);
}

static void hello(struct session *s, struct command *c)
{
    if (refuse(s, c))
        return;
    answer(s, 0,
           "protocol=%d arch=%s domid=%d vcpus=%u tick_hz=%llu record=%zu page=%u xen=%d.%d",
           PROTOCOL_VERSION, ARCH, own_id, hands_count(), (unsigned long long)ticks_hz(),
           sizeof(struct record), PAGE_BYTES, version < 0 ? 0 : version >> 16,
           version < 0 ? 0 : version & 0xffff);
}

static void read_ticks(struct session *s, struct command *c)
{
    if (!refuse(s, c))
        answer(s, 0, "ticks=%llu tick_hz=%llu", (unsigned long long)ticks(),
               (unsigned long long)ticks_hz());
}

static void compare_clocks(struct session *s, struct command *c)
{
    struct comparison best;
    uint64_t skew;
    int error;

    if (refuse(s, c))
        return;
    error = clock_compare(&best);
    if (!error)
        error = clock_skew(hands_count(), &skew);
    if (error)
        answer(s, -error, "what=clock");
    else
        answer(s, 0, "local=%llu remote=%llu error=%llu exchanges=%llu skew=%llu tick_hz=%llu",
               (unsigned long long)best.local, (unsigned long long)best.remote,
               (unsigned long long)best.error, (unsigned long long)best.exchanges,
               (unsigned long long)skew, (unsigned long long)ticks_hz());
}

static int do_bench(struct actor *a, struct request *q)
{
    struct recording_cost cost;
    int error = bench_recording(a, q->a, &cost);

    q->values[0] = cost.recorded_per_s;
    q->values[1] = cost.bare_per_s;
    return error;
}

static void bench(struct session *s, struct command *c)
{
    struct request q = {.run = do_bench};
    int error;

    q.a = (uint32_t)required(c, "ms", 60000);
    if (refuse(s, c))
        return;
    error = hand_run(0, q.a + 5000, &q);
    if (!error)
        error = q.result;
    if (error)
        answer(s, -error, "what=bench");
    else
        answer(s, 0, "recorded_per_s=%llu bare_per_s=%llu", (unsigned long long)q.values[0],
               (unsigned long long)q.values[1]);
}

static void release_ports(struct session *s, struct command *c)
{
    struct request q = {.run = release_all};
    char open[MAX_EVENTS * 11 + 1] = "";
    size_t n = 0;
    int error;

    if (refuse(s, c))
        return;
    error = hand_run(0, RELEASE_MS, &q);
    if (error) {
        answer(s, -error, "what=in-flight on=0");
        return;
    }
    for (unsigned i = 0; i < q.count; i++)
        n += (size_t)snprintf(open + n, sizeof(open) - n, i ? ",%u" : "%u", q.ports[i]);
    answer(s, 0, "asked=%u open=%s", q.a, open);
}

static struct actor *actor_of(unsigned thread)
{
    return thread < hands_count() ? hand_actor(thread) : load_actor(thread - hands_count());
}

static void collect(struct session *s, struct command *c)
{
    unsigned thread = (unsigned)required(c, "thread", UINT16_MAX);
    struct actor *a;
    size_t bytes;

    if (refuse(s, c))
        return;
    a = actor_of(thread);
    if (!a) {
        answer(s, ENOENT, "what=thread");
        return;
    }
    bytes = buffer_used_pages(&a->log) * PAGE_BYTES;
    answer(s, 0, "vcpu=%u done=%llu lost=%llu bytes=%zu", a->vcpu,
           (unsigned long long)a->log.done, (unsigned long long)a->log.lost, bytes);
    answer_bytes(s, a->log.pages, bytes);
}

static int do_debug_key(struct actor *a, struct request *q)
{
    return raw_debug_key(a, (char)q->a);
}

static void debug_key(struct session *s, struct command *c)
{
    struct request q = {.run = do_debug_key};
    const char *key = text(c, "key", "");
    int error;

    if (strlen(key) != 1)
        c->bad = "key";
    q.a = (uint32_t)key[0];
    if (refuse(s, c))
        return;
    error = hand_run(0, RELEASE_MS, &q);
    if (!error)
        error = q.result;
    if (error)
        answer(s, -error, "what=debug_key");
    else
        answer(s, 0, "key=%s", key);
}

static void interrupts(struct session *s, struct command *c)
{
    uint64_t counts[MAX_VCPUS];
    char list[MAX_VCPUS * 21 + 1] = "";
    size_t n = 0;
    int cpus;

    if (refuse(s, c))
        return;
    cpus = device_interrupts(counts, MAX_VCPUS);
    if (cpus < 0) {
        answer(s, -cpus, "what=interrupts");
        return;
    }
    for (int i = 0; i < cpus; i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, i ? ",%llu" : "%llu",
                              (unsigned long long)counts[i]);
    answer(s, 0, "vcpus=%s", list);
}

static void forget_ports(struct session *s, struct command *c)
{
    if (refuse(s, c))
        return;
    forget_closed_ports();
    answer(s, 0, "forgotten=1");
}

static void quit(struct session *s, struct command *c)
{
    if (refuse(s, c))
        return;
    answer(s, 0, "bye=1");
    s->ended = true;
}

static const struct verb verbs[] = {
    {"hello", hello},
    {"ticks", read_ticks},
    {"clock", compare_clocks},
    {"bench", bench},
    {"release", release_ports},
    {"forget", forget_ports},
    {"collect", collect},
    {"debug_key", debug_key},
    {"interrupts", interrupts},
    {"quit", quit},
    {NULL, NULL},
};

bool agent_commands(struct session *s, struct command *c)
{
    return run_verb(verbs, s, c);
}
