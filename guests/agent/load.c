/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hands.h"
#include "programme.h"
#include "session.h"
#include "slots.h"

#define MAX_THREADS 64u
#define RESERVE 32u /* records that one step can need at most */
#define STOP_MS 5000u
#define SETUP_MS 7000u
#define NOTABLE_MS 100u /* an operation in flight for longer is told of */
#define MAX_RECORDS (8u << 20)

enum state { IDLE, READY, RUNNING, STOPPED };
static const char *const state_name[] = {"idle", "ready", "running", "stopped"};

struct thread {
    struct actor actor;
    size_t records; /* the buffer's size */
    struct programme programme;
    sem_t go;
    bool alive;
    bool full;
};

static struct thread threads[MAX_THREADS];
static unsigned thread_count;
static enum state state;
static bool stopping;

static void *thread_main(void *argument)
{
    struct thread *t = argument;

    actor_pin(&t->actor);
    thread_urgent(false); /* it was made by the one that answers the host */
    while (sem_wait(&t->go) < 0)
        ;
    while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
        struct step step;
        if (buffer_room(&t->actor.log) < RESERVE) {
            __atomic_store_n(&t->full, true, __ATOMIC_RELAXED);
            break;
        }
        step = programme_next(&t->programme);
        slots_step(&t->actor, &step);
    }
    __atomic_store_n(&t->alive, false, __ATOMIC_RELEASE);
    return NULL;
}

struct actor *load_actor(unsigned index)
{
    return index < thread_count ? &threads[index].actor : NULL;
}

static bool anyone_alive(void)
{
    for (unsigned i = 0; i < thread_count; i++)
        if (__atomic_load_n(&threads[i].alive, __ATOMIC_ACQUIRE))
            return true;
    return false;
}

static void let_them_go(void)
{
    for (unsigned i = 0; i < thread_count; i++)
        sem_post(&threads[i].go);
}

void load_abandon(void)
{
    if (state == READY)
        let_them_go(); /* they see at once that they are to stop */
    __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
    for (unsigned ms = 0; ms < STOP_MS && anyone_alive(); ms += 5) {
        struct timespec nap = {0, 5000000};
        nanosleep(&nap, NULL);
    }
    if (state != IDLE)
        state = STOPPED;
}

/* --- the parts of load_begin --- */

static int give_buffer(struct thread *t, unsigned index, size_t records)
{
    uint16_t number = (uint16_t)(hands_count() + index);
    uint16_t vcpu = (uint16_t)(index % hands_count());
    int error;

    if (t->records == records)
        return 0;
    if (t->records)
        actor_destroy(&t->actor);
    t->records = 0;
    error = actor_create(&t->actor, number, vcpu, records);
    if (!error)
        t->records = records;
    return error;
}

static int start_thread(struct thread *t)
{
    pthread_t id;
    int error;

    sem_init(&t->go, 0, 0);
    t->full = false;
    t->alive = true;
    error = pthread_create(&id, NULL, thread_main, t);
    if (error)
        t->alive = false;
    else
        pthread_detach(id);
    return -error;
}

static int do_anchor(struct actor *a, struct request *q)
{
    (void)q;
    return slots_anchor(a);
}

/* Something that enters Xen, with a deadline. */
static int by_hand(struct request *q)
{
    int error = hand_begin(0, q);

    if (!error)
        error = hand_join(0, SETUP_MS, q);
    return error ? error : q->result;
}

static int prepare(uint64_t seed, uint32_t actor, uint32_t run, unsigned count, size_t records,
                   const struct slot_plan *plan)
{
    struct request anchor = {.run = do_anchor};
    int own = own_domid(hand_actor(0));
    int slot_count, error = 0;

    if (own < 0)
        return own;
    for (unsigned i = 0; i < hands_count(); i++)
        if (hand_busy(i))
            return -EBUSY; /* it would go on writing to the records of this run */
    slot_count = slots_lay_out(plan, (uint16_t)own, hands_count());
    if (slot_count < 1)
        return slot_count < 0 ? slot_count : -EINVAL;
    for (unsigned i = 0; i < hands_count(); i++)
        actor_restart(hand_actor(i), run);
    stopping = false;
    thread_count = 0;
    for (unsigned i = 0; i < count && !error; i++) {
        error = give_buffer(&threads[i], i, records);
        if (error)
            break;
        actor_restart(&threads[i].actor, run);
        programme_start(&threads[i].programme, seed, actor, i, (uint32_t)slot_count);
        error = start_thread(&threads[i]);
        thread_count = i + 1;
    }
    state = READY;
    if (!error)
        error = by_hand(&anchor);
    return error ? error : slot_count;
}

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

/* --- the verbs --- */

static void load_begin(struct session *s, struct command *c)
{
    uint64_t seed = required(c, "seed", UINT64_MAX);
    uint32_t actor = (uint32_t)required(c, "actor", UINT32_MAX);
    uint32_t run = (uint32_t)required(c, "run", UINT32_MAX);
    unsigned count = (unsigned)required(c, "threads", MAX_THREADS);
    size_t records = required(c, "records", MAX_RECORDS);
    uint32_t peers[MAX_PEERS];
    char anchors[MAX_LINE / 2] = "";
    struct slot_plan plan = {
        .raw = (unsigned)required(c, "raw", MAX_SLOTS),
        .device = (unsigned)required(c, "device", MAX_SLOTS),
        .cross = (unsigned)required(c, "cross", MAX_ANCHORS / 2),
        .virq = (unsigned)required(c, "virq", MAX_SLOTS),
        .peers = (unsigned)numbers(c, "peers", peers, MAX_PEERS),
    };
    int result;

    for (unsigned i = 0; i < plan.peers; i++)
        plan.peer[i] = (uint16_t)peers[i];
    if (refuse(s, c))
        return;
    if (anyone_alive()) {
        answer(s, EBUSY, "what=load");
        return;
    }
    result = prepare(seed, actor, run, count, records, &plan);
    if (result < 0) {
        load_abandon();
        answer(s, -result, "what=load_begin");
        return;
    }
    print_anchors(anchors, sizeof(anchors), &plan);
    answer(s, 0, "slots=%d first_thread=%u%s", result, hands_count(), anchors);
}

static void load_peer(struct session *s, struct command *c)
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

static void load_go(struct session *s, struct command *c)
{
    if (refuse(s, c))
        return;
    if (state != READY) {
        answer(s, EINVAL, "what=not-ready");
        return;
    }
    state = RUNNING;
    let_them_go();
    answer(s, 0, "threads=%u", thread_count);
}

/* What has been in flight for a notable time, as thread:operation:port:milliseconds,... */
static void print_in_flight(char *line, size_t room, uint64_t hz)
{
    uint64_t now = ticks();
    size_t n = 0;

    line[0] = '\0';
    for (unsigned i = 0; i < hands_count() + thread_count && n < room - 64; i++) {
        const struct actor *a = i < hands_count() ? hand_actor(i) : &threads[i - hands_count()].actor;
        const struct record *r = record_in_flight(&a->log);
        uint64_t ms = r && now > r->call ? (now - r->call) / (hz / 1000) : 0;
        if (ms >= NOTABLE_MS)
            n += (size_t)snprintf(line + n, room - n, "%s%u:%u:%u:%llu", n ? "," : "", i, r->op,
                                  r->port, (unsigned long long)ms);
    }
}

static void load_status(struct session *s, struct command *c)
{
    char done[MAX_THREADS * 21], flying[MAX_LINE / 4];
    unsigned alive = 0, full = 0;
    size_t n = 0;

    if (refuse(s, c))
        return;
    done[0] = '\0';
    for (unsigned i = 0; i < thread_count; i++) {
        const struct thread *t = &threads[i];
        alive += __atomic_load_n(&t->alive, __ATOMIC_ACQUIRE);
        full += __atomic_load_n(&t->full, __ATOMIC_RELAXED);
        n += (size_t)snprintf(done + n, sizeof(done) - n, i ? ",%llu" : "%llu",
                              (unsigned long long)__atomic_load_n(&t->actor.log.done,
                                                                  __ATOMIC_RELAXED));
    }
    print_in_flight(flying, sizeof(flying), ticks_hz());
    answer(s, 0, "state=%s alive=%u full=%u operations=%s flying=%s", state_name[state], alive,
           full, done, flying);
}

static void load_stop(struct session *s, struct command *c)
{
    char stuck[MAX_THREADS * 4] = "";
    size_t n = 0;

    if (refuse(s, c))
        return;
    load_abandon();
    for (unsigned i = 0; i < thread_count; i++)
        if (__atomic_load_n(&threads[i].alive, __ATOMIC_ACQUIRE))
            n += (size_t)snprintf(stuck + n, sizeof(stuck) - n, n ? ",%u" : "%u",
                                  hands_count() + i);
    answer(s, 0, "stuck=%s", stuck);
}

static int do_drain(struct actor *a, struct request *q)
{
    return slots_drain(a, q->a);
}

static void load_drain(struct session *s, struct command *c)
{
    struct request q = {.run = do_drain};
    int result;

    q.a = (uint32_t)required(c, "quiet_ms", 10000);
    if (refuse(s, c))
        return;
    result = by_hand(&q);
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

const struct verb load_verbs[] = {
    {"load_begin", load_begin},
    {"load_peer", load_peer},
    {"load_go", load_go},
    {"load_status", load_status},
    {"load_stop", load_stop},
    {"load_drain", load_drain},
    {"programme", programme},
    {NULL, NULL},
};
