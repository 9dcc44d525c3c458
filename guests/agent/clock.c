/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A comparison is many exchanges.  In each we read our counter and write a number (the ping); the
 * other side sees it, reads its counter and writes the number back (the pong); we see that and read
 * our counter again.  Both sides poll.
 *
 *     our counter:    sent --------------------------- got
 *     theirs:                     pong_ticks
 *
 * We take it that theirs was read in the middle between sent and got, and are wrong by half of that
 * time at most.  So the quickest exchange is the best one.
 */
#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "thread.h"
#include "ticks.h"

#define MAX_EXCHANGES 2000u
#define MIN_EXCHANGES 200u /* enough if the best of them is good */
#define GOOD_NS 2000u /* an error that can hardly be smaller between two CPUs */
#define EXCHANGE_MS 200u /* an exchange that takes longer is given up */
#define TOTAL_MS 1500u
#define FIRST_ANSWER_MS 2500u /* so much longer, as long as there has been no answer at all */
#define SPINS 20000u /* between naps */

struct control *clock_peer;

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* Where to write the number, and where the answer appears. */
struct exchange {
    uint32_t *ping;
    const uint32_t *pong;
    const uint64_t *pong_ticks;
};

/* Both sides may have to share one CPU: let the other side run. */
static void nap(void)
{
    struct timespec moment = {0, 20000};

    nanosleep(&moment, NULL);
}

static int await(const uint32_t *word, uint32_t value, uint64_t deadline_ms)
{
    for (unsigned spin = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; spin++) {
        if (spin % SPINS == 0) {
            if (now_ms() > deadline_ms)
                return -ETIMEDOUT;
            nap();
        }
        relax();
    }
    return 0;
}

static int compare(const struct exchange *e, unsigned budget_ms, struct comparison *best)
{
    uint64_t good = ticks_hz() / 1000000u * GOOD_NS / 1000u;
    uint64_t end = now_ms() + budget_ms;
    uint32_t number = *e->ping;

    memset(best, 0, sizeof(*best));
    best->error = UINT64_MAX;
    while (best->exchanges < MAX_EXCHANGES) {
        uint64_t sent, got;
        if (now_ms() >= (best->exchanges ? end : end + FIRST_ANSWER_MS))
            break;
        sent = ticks();
        __atomic_store_n(e->ping, ++number, __ATOMIC_RELEASE);
        if (await(e->pong, number, now_ms() + EXCHANGE_MS) < 0)
            continue;
        got = ticks();
        best->exchanges++;
        if ((got - sent + 1) / 2 < best->error) {
            best->error = (got - sent + 1) / 2;
            best->local = sent + (got - sent) / 2;
            best->remote = *e->pong_ticks;
        }
        if (best->exchanges >= MIN_EXCHANGES && best->error <= good)
            break;
    }
    return best->exchanges ? 0 : -ETIMEDOUT;
}

int clock_compare(struct comparison *best)
{
    struct exchange e;
    int error;

    if (!clock_peer) {
        best->local = best->remote = ticks();
        best->error = best->exchanges = 0;
        return 0;
    }
    e = (struct exchange){&clock_peer->ping, &clock_peer->pong, &clock_peer->pong_ticks};
    __atomic_store_n(&clock_peer->clock_wanted, 1, __ATOMIC_RELEASE);
    error = compare(&e, TOTAL_MS, best);
    __atomic_store_n(&clock_peer->clock_wanted, 0, __ATOMIC_RELEASE);
    return error;
}

void clock_answer(struct control *shared)
{
    uint64_t end = now_ms() + TOTAL_MS + FIRST_ANSWER_MS;
    uint32_t seen = shared->pong;

    for (unsigned spin = 1; __atomic_load_n(&shared->clock_wanted, __ATOMIC_ACQUIRE); spin++) {
        uint32_t ping = __atomic_load_n(&shared->ping, __ATOMIC_ACQUIRE);
        if (ping != seen) {
            shared->pong_ticks = ticks();
            __atomic_store_n(&shared->pong, ping, __ATOMIC_RELEASE);
            seen = ping;
        }
        if (spin % SPINS == 0) {
            if (now_ms() > end)
                return;
            nap();
        }
        relax();
    }
}

/* The exchange between two vCPUs uses a control structure of its own. */
static struct control between_vcpus;

static void *other_vcpu(void *argument)
{
    if (thread_pin((unsigned)(uintptr_t)argument) == 0)
        clock_answer(&between_vcpus);
    return NULL;
}

int clock_skew(unsigned vcpus, uint64_t *bound)
{
    struct exchange e = {&between_vcpus.ping, &between_vcpus.pong, &between_vcpus.pong_ticks};
    cpu_set_t before;
    int error = 0;

    *bound = 0;
    if (sched_getaffinity(0, sizeof(before), &before) < 0 || thread_pin(0) < 0)
        return -errno;
    for (unsigned vcpu = 1; vcpu < vcpus && !error; vcpu++) {
        struct comparison best;
        pthread_t thread;
        uint64_t apart;
        __atomic_store_n(&between_vcpus.clock_wanted, 1, __ATOMIC_RELEASE);
        error = -pthread_create(&thread, NULL, other_vcpu, (void *)(uintptr_t)vcpu);
        if (error)
            break;
        error = compare(&e, TOTAL_MS / (vcpus - 1), &best);
        __atomic_store_n(&between_vcpus.clock_wanted, 0, __ATOMIC_RELEASE);
        pthread_join(thread, NULL);
        apart = best.remote > best.local ? best.remote - best.local : best.local - best.remote;
        if (!error && apart + best.error > *bound)
            *bound = apart + best.error;
    }
    sched_setaffinity(0, sizeof(before), &before);
    return error;
}
