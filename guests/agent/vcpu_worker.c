/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "thread.h"
#include "ticks.h"

#define WORKER_RECORDS (256u * RECORDS_PER_PAGE)
#define BARRIER_SECONDS 3u

struct worker {
    struct actor actor;
    struct job job;
    sem_t begin;
    sem_t done;
    /* Only the protocol's thread uses these. */
    bool busy;
    bool overdue; /* worker_wait() has given up waiting for it */
};

static struct worker workers[MAX_VCPUS];
static unsigned worker_count;
static unsigned at_barrier; /* how many workers have come to it */

/*
 * Begin together with the others: each spins on its own vCPU, so that none has to be woken up
 * first.  Returns false when they have not all come in time.
 */
static bool pass_barrier(unsigned count)
{
    uint64_t begin = ticks(), most;

    if (count == 0)
        return true;
    most = BARRIER_SECONDS * ticks_hz(); /* not in the loop: it takes some microseconds */
    __atomic_add_fetch(&at_barrier, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&at_barrier, __ATOMIC_ACQUIRE) < count) {
        if (ticks() - begin > most)
            return false;
        relax();
    }
    return true;
}

static void lag(uint64_t count)
{
    uint64_t begin = ticks();

    while (ticks() - begin < count)
        relax();
}

static int make(struct worker *w)
{
    if (w->job.prepare)
        w->job.prepare(&w->actor, &w->job);
    if (!pass_barrier(w->job.barrier))
        return -ETIMEDOUT;
    lag(w->job.lag);
    return w->job.run(&w->actor, &w->job);
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;

    thread_pin(w->actor.vcpu);
    thread_urgent(false);
    for (;;) {
        const struct record *first;

        while (sem_wait(&w->begin) < 0)
            ;
        first = w->actor.log.next;
        w->actor.fault = w->job.fault;
        w->job.result = make(w);
        w->actor.fault = FAULT_NONE;
        /* Several records (events read): the first has the call, all have the same return. */
        w->job.record = first < w->actor.log.end ? *first : w->actor.log.spare;
        sem_post(&w->done);
    }
    return NULL;
}

int workers_start(unsigned count)
{
    for (unsigned i = 0; i < count && i < MAX_VCPUS; i++) {
        struct worker *w = &workers[i];
        pthread_t thread;
        int error = actor_create(&w->actor, (uint16_t)i, (uint16_t)i, WORKER_RECORDS);
        if (error)
            return error;
        actor_restart(&w->actor, 0);
        sem_init(&w->begin, 0, 0);
        sem_init(&w->done, 0, 0);
        error = pthread_create(&thread, NULL, worker_main, w);
        if (error)
            return -error;
        worker_count = i + 1;
    }
    return 0;
}

unsigned workers_count(void)
{
    return worker_count;
}

struct actor *worker_actor(unsigned vcpu)
{
    return &workers[vcpu].actor;
}

/* An operation that was given up, and has ended since, is in nobody's way. */
bool worker_busy(unsigned vcpu)
{
    struct worker *w = &workers[vcpu];

    if (w->busy && w->overdue && sem_trywait(&w->done) == 0)
        w->busy = false;
    return w->busy;
}

static bool any_busy(void)
{
    for (unsigned i = 0; i < worker_count; i++)
        if (workers[i].busy)
            return true;
    return false;
}

int worker_begin(unsigned vcpu, const struct job *job)
{
    struct worker *w = &workers[vcpu];

    if (worker_busy(vcpu))
        return -EBUSY;
    if (!any_busy())
        __atomic_store_n(&at_barrier, 0, __ATOMIC_RELEASE);
    w->job = *job;
    w->busy = true;
    w->overdue = false;
    sem_post(&w->begin);
    return 0;
}

int worker_wait(unsigned vcpu, unsigned timeout_ms, struct job *job)
{
    struct worker *w = &workers[vcpu];
    struct timespec until;

    if (!w->busy)
        return -ENOENT;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (sem_clockwait(&w->done, CLOCK_MONOTONIC, &until) < 0)
        if (errno != EINTR) {
            w->overdue = true;
            return -ETIME;
        }
    w->busy = false;
    *job = w->job;
    return 0;
}

int worker_run(unsigned vcpu, unsigned timeout_ms, struct job *job)
{
    int error = worker_begin(vcpu, job);

    return error ? error : worker_wait(vcpu, timeout_ms, job);
}
