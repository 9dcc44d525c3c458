/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "thread.h"
#include "vcpu_worker.h"

#define RESERVE 32u /* the most records that one step can need */
#define STOP_MS 5000u
#define SETUP_MS 7000u

struct thread {
    struct actor actor;
    size_t records; /* the buffer's size */
    struct workload workload;
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
    thread_urgent(false); /* as the thread is that has made this one */
    while (sem_wait(&t->go) < 0)
        ;
    while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
        struct step step;
        if (buffer_room(&t->actor.log) < RESERVE) {
            __atomic_store_n(&t->full, true, __ATOMIC_RELAXED);
            break;
        }
        step = workload_next(&t->workload);
        pool_step(&t->actor, &step);
    }
    __atomic_store_n(&t->alive, false, __ATOMIC_RELEASE);
    return NULL;
}

static void let_threads_begin(void)
{
    for (unsigned i = 0; i < thread_count; i++)
        sem_post(&threads[i].go);
}

/* --- before --- */

static int give_buffer(struct thread *t, unsigned index, size_t records)
{
    uint16_t number = (uint16_t)(workers_count() + index);
    uint16_t vcpu = (uint16_t)(index % workers_count());
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

static int do_allocate(struct actor *a, struct job *job)
{
    (void)job;
    return pool_allocate(a);
}

/* Have vCPU 0's worker do what enters Xen.  Returns its result, or -ETIME after 7 s. */
static int on_worker(struct job *job)
{
    int error = worker_run(0, SETUP_MS, job);

    return error ? error : job->result;
}

int load_prepare(const struct load_plan *plan)
{
    struct job allocate = {.run = do_allocate};
    int own = own_domid(worker_actor(0));
    int channels, error = 0;

    if (own < 0)
        return own;
    for (unsigned i = 0; i < workers_count(); i++)
        if (worker_busy(i))
            return -EBUSY; /* when it returns, it would write to the records of this load */
    channels = pool_lay_out(&plan->pool, (uint16_t)own, workers_count());
    if (channels < 1)
        return channels < 0 ? channels : -EINVAL;
    for (unsigned i = 0; i < workers_count(); i++)
        actor_restart(worker_actor(i), plan->run);
    stopping = false;
    thread_count = 0;
    for (unsigned i = 0; i < plan->threads && !error; i++) {
        struct thread *t = &threads[i];
        error = give_buffer(t, i, plan->records);
        if (error)
            break;
        t->actor.domid = (uint16_t)own;
        actor_restart(&t->actor, plan->run);
        workload_start(&t->workload, plan->seed, plan->agent, i, (uint32_t)channels);
        error = start_thread(t);
        thread_count = i + 1;
    }
    state = LOAD_READY;
    if (!error)
        error = on_worker(&allocate);
    return error ? error : channels;
}

/* --- during --- */

int load_start(void)
{
    if (state != LOAD_READY)
        return -EINVAL;
    state = LOAD_RUNNING;
    let_threads_begin();
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

void load_stop(void)
{
    if (state == LOAD_READY)
        let_threads_begin(); /* they find at once that they are to stop */
    __atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
    for (unsigned ms = 0; ms < STOP_MS && load_alive(); ms += 5) {
        struct timespec nap = {0, 5000000};
        nanosleep(&nap, NULL);
    }
    if (state != LOAD_IDLE)
        state = LOAD_STOPPED;
}

static int do_drain(struct actor *a, struct job *job)
{
    return pool_drain(a, job->a);
}

int load_drain(unsigned quiet_ms)
{
    struct job job = {.run = do_drain, .a = quiet_ms};

    return on_worker(&job);
}
