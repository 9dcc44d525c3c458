/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent_commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "hypercall.h"
#include "interrupts.h"
#include "load.h"
#include "ports.h"
#include "release.h"
#include "thread.h"
#include "ticks.h"
#include "vcpu_worker.h"

#if defined(__x86_64__)
#define ARCH "x86_64"
#else
#define ARCH "arm64"
#endif

#define PROTOCOL_VERSION 2
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
    if (workers_start(vcpus < MAX_VCPUS ? vcpus : MAX_VCPUS) < 0)
        return -ENOMEM;
    if (error == 0) {
        own_id = own_domid(worker_actor(0));
        version = xen_version(worker_actor(0));
        for (unsigned i = 0; i < workers_count(); i++) {
            if (own_id >= 0)
                worker_actor(i)->domid = (uint16_t)own_id;
            actor_restart(worker_actor(i), 0); /* without the records of own_domid() */
        }
        forget_closed_ports();
    }
    return 0;
}

void agent_session_closed(void)
{
    struct job job = {.run = release_all};

    load_stop();
    if (own_id >= 0)
        worker_run(0, RELEASE_MS, &job);
}

static void hello(struct session *s, struct command *c)
{
    if (refuse(s, c))
        return;
    answer(s, 0,
           "protocol=%d arch=%s domid=%d vcpus=%u tick_hz=%llu record=%zu page=%u xen=%d.%d",
           PROTOCOL_VERSION, ARCH, own_id, workers_count(), (unsigned long long)ticks_hz(),
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
        error = clock_skew(workers_count(), &skew);
    if (error)
        answer(s, -error, "what=clock");
    else
        answer(s, 0, "local=%llu remote=%llu error=%llu exchanges=%llu skew=%llu tick_hz=%llu",
               (unsigned long long)best.local, (unsigned long long)best.remote,
               (unsigned long long)best.error, (unsigned long long)best.exchanges,
               (unsigned long long)skew, (unsigned long long)ticks_hz());
}

static int do_bench(struct actor *a, struct job *job)
{
    struct recording_cost cost = {0};
    int error = bench_recording(a, job->a, &cost);

    job->rates[0] = cost.recorded_per_s;
    job->rates[1] = cost.bare_per_s;
    return error;
}

static void bench(struct session *s, struct command *c)
{
    struct job job = {.run = do_bench};
    int error;

    job.a = (uint32_t)required(c, "ms", 60000);
    if (refuse(s, c))
        return;
    error = worker_run(0, job.a + 5000, &job);
    if (!error)
        error = job.result;
    if (error)
        answer(s, -error, "what=bench");
    else
        answer(s, 0, "recorded_per_s=%llu bare_per_s=%llu", (unsigned long long)job.rates[0],
               (unsigned long long)job.rates[1]);
}

static void release_ports(struct session *s, struct command *c)
{
    struct job job = {.run = release_all};
    char open[MAX_NUMBERS * 11 + 1] = "";
    size_t n = 0;
    int error;

    if (refuse(s, c))
        return;
    error = worker_run(0, RELEASE_MS, &job);
    if (error) {
        answer(s, -error, "what=in-flight on=0");
        return;
    }
    for (unsigned i = 0; i < job.count; i++)
        n += (size_t)snprintf(open + n, sizeof(open) - n, i ? ",%u" : "%u", job.numbers[i]);
    answer(s, 0, "asked=%u open=%s", job.a, open);
}

/* Threads are numbered: first the vCPUs' workers, then the threads of the load. */
static struct actor *actor_of(unsigned thread)
{
    return thread < workers_count() ? worker_actor(thread) : load_actor(thread - workers_count());
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

static int do_debug_key(struct actor *a, struct job *job)
{
    return raw_debug_key(a, (char)job->a);
}

static void debug_key(struct session *s, struct command *c)
{
    struct job job = {.run = do_debug_key};
    const char *key = text(c, "key", "");
    int error;

    if (strlen(key) != 1)
        c->bad = "key";
    job.a = (uint32_t)key[0];
    if (refuse(s, c))
        return;
    error = worker_run(0, RELEASE_MS, &job);
    if (!error)
        error = job.result;
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
    cpus = evtchn_interrupts(counts, MAX_VCPUS);
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
