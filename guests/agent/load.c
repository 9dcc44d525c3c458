/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "hands.h"
#include "programme.h"
#include "thread.h"

#define RESERVE 32u /* records that one step can need at most */
#define STOP_MS 5000u
#define SETUP_MS 7000u

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
static enum load_state state;
static bool stopping;

static void *thread_main(void *argument)
{
    struct thread *t = argument;

    thread_pin(t->actor.vcpu);
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

static void let_them_go(void)
{
    for (unsigned i = 0; i < thread_count; i++)
        sem_post(&threads[i].go);
}

/* --- before --- */

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
    int error = hand_run(0, SETUP_MS, q);

    return error ? error : q->result;
}

int load_prepare(const struct load_plan *plan)
{
    struct request anchor = {.run = do_anchor};
    int own = own_domid(hand_actor(0));
    int slot_count, error = 0;

    if (own < 0)
        return own;
    for (unsigned i = 0; i < hands_count(); i++)
        if (hand_busy(i))
            return -EBUSY; /* it would go on writing to the records of this run */
    slot_count = slots_lay_out(&plan->slots, (uint16_t)own, hands_count());
    if (slot_count < 1)
        return slot_count < 0 ? slot_count : -EINVAL;
    for (unsigned i = 0; i < hands_count(); i++)
        actor_restart(hand_actor(i), plan->run);
    stopping = false;
    thread_count = 0;
    for (unsigned i = 0; i < plan->threads && !error; i++) {
        struct thread *t = &threads[i];
        error = give_buffer(t, i, plan->records);
        if (error)
            break;
        t->actor.domid = (uint16_t)own;
        actor_restart(&t->actor, plan->run);
        programme_start(&t->programme, plan->seed, plan->actor, i, (uint32_t)slot_count);
        error = start_thread(t);
        thread_count = i + 1;
    }
    state = LOAD_READY;
    if (!error)
        error = by_hand(&anchor);
    return error ? error : slot_count;
}

/* --- during --- */

int load_start(void)
{
    if (state != LOAD_READY)
        return -EINVAL;
    state = LOAD_RUNNING;
    let_them_go();
    return 0;
}

enum load_state load_state(void)
{
    return state;
}

unsigned load_threads(void)
{
    return thread_count;
}

struct actor *load_actor(unsigned index)
{
    return index < thread_count ? &threads[index].actor : NULL;
}

bool load_thread_alive(unsigned index)
{
    return __atomic_load_n(&threads[index].alive, __ATOMIC_ACQUIRE);
}

bool load_thread_full(unsigned index)
{
    return __atomic_load_n(&threads[index].full, __ATOMIC_RELAXED);
}

bool load_alive(void)
{
    for (unsigned i = 0; i < thread_count; i++)
        if (load_thread_alive(i))
            return true;
    return false;
}

/* --- after --- */

void load_abandon(void)
{
    if (state == LOAD_READY)
        let_them_go(); /* they see at once that they are to stop */
    __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
    for (unsigned ms = 0; ms < STOP_MS && load_alive(); ms += 5) {
        struct timespec nap = {0, 5000000};
        nanosleep(&nap, NULL);
    }
    if (state != LOAD_IDLE)
        state = LOAD_STOPPED;
}

static int do_drain(struct actor *a, struct request *q)
{
    return slots_drain(a, q->a);
}

int load_drain(unsigned quiet_ms)
{
    struct request q = {.run = do_drain, .a = quiet_ms};

    return by_hand(&q);
}
