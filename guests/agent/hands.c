/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hands.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "thread.h"
#include "ticks.h"

#define HAND_RECORDS (256u * RECORDS_PER_PAGE)
#define MEET_SECONDS 3u

struct hand {
    struct actor actor;
    struct request request;
    sem_t go;
    sem_t done;
    /* Only the protocol's thread looks at these. */
    bool busy;
    bool overdue; /* somebody has waited for it in vain */
};

static struct hand hands[MAX_VCPUS];
static unsigned hand_total;
static unsigned arrived; /* hands that wait for each other */

/* Begin together with the others: each is on its vCPU, and nothing has to wake it up any more. */
static bool meet(unsigned count)
{
    uint64_t begin = ticks();

    if (count == 0)
        return true;
    __atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < count) {
        if (ticks() - begin > MEET_SECONDS * ticks_hz())
            return false;
        relax();
    }
    return true;
}

static void *hand_main(void *argument)
{
    struct hand *h = argument;

    thread_pin(h->actor.vcpu);
    thread_urgent(false);
    for (;;) {
        const struct record *first;

        while (sem_wait(&h->go) < 0)
            ;
        first = h->actor.log.next;
        h->actor.fault = h->request.fault;
        h->request.result = meet(h->request.meet) ? h->request.run(&h->actor, &h->request)
                                                  : -ETIMEDOUT;
        h->actor.fault = FAULT_NONE;
        /* Several records (events read): the first has the call, all have the same return. */
        h->request.record = first < h->actor.log.end ? *first : h->actor.log.spare;
        sem_post(&h->done);
    }
    return NULL;
}

int hands_start(unsigned count)
{
    for (unsigned i = 0; i < count && i < MAX_VCPUS; i++) {
        struct hand *h = &hands[i];
        pthread_t thread;
        int error = actor_create(&h->actor, (uint16_t)i, (uint16_t)i, HAND_RECORDS);
        if (error)
            return error;
        actor_restart(&h->actor, 0);
        sem_init(&h->go, 0, 0);
        sem_init(&h->done, 0, 0);
        error = pthread_create(&thread, NULL, hand_main, h);
        if (error)
            return -error;
        hand_total = i + 1;
    }
    return 0;
}

unsigned hands_count(void)
{
    return hand_total;
}

struct actor *hand_actor(unsigned vcpu)
{
    return &hands[vcpu].actor;
}

/* An operation that was given up as lost, but has come back meanwhile, is in nobody's way. */
bool hand_busy(unsigned vcpu)
{
    struct hand *h = &hands[vcpu];

    if (h->busy && h->overdue && sem_trywait(&h->done) == 0)
        h->busy = false;
    return h->busy;
}

static bool any_busy(void)
{
    for (unsigned i = 0; i < hand_total; i++)
        if (hands[i].busy)
            return true;
    return false;
}

int hand_begin(unsigned vcpu, const struct request *q)
{
    struct hand *h = &hands[vcpu];

    if (hand_busy(vcpu))
        return -EBUSY;
    if (!any_busy())
        __atomic_store_n(&arrived, 0, __ATOMIC_RELEASE);
    h->request = *q;
    h->busy = true;
    h->overdue = false;
    sem_post(&h->go);
    return 0;
}

int hand_join(unsigned vcpu, unsigned timeout_ms, struct request *q)
{
    struct hand *h = &hands[vcpu];
    struct timespec until;

    if (!h->busy)
        return -ENOENT;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (sem_clockwait(&h->done, CLOCK_MONOTONIC, &until) < 0)
        if (errno != EINTR) {
            h->overdue = true;
            return -ETIME;
        }
    h->busy = false;
    *q = h->request;
    return 0;
}

int hand_run(unsigned vcpu, unsigned timeout_ms, struct request *q)
{
    int error = hand_begin(vcpu, q);

    return error ? error : hand_join(vcpu, timeout_ms, q);
}
