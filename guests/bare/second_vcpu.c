/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "second_vcpu.h"

#include "xen.h"

#define IDLE_NS 500000ull

/* What vCPU 1 is to do; it sets `begun` to false when it has done it. */
static struct {
    void (*work)(void *argument);
    void *argument;
    bool begun;
} next;

void second_vcpu_main(void); /* start-*.S calls it */

void second_vcpu_main(void)
{
    for (;;) {
        if (__atomic_load_n(&next.begun, __ATOMIC_ACQUIRE)) {
            next.work(next.argument);
            __atomic_store_n(&next.begun, false, __ATOMIC_RELEASE);
        } else {
            sleep_ns(IDLE_NS);
        }
    }
}

void second_vcpu_begin(void (*work)(void *argument), void *argument)
{
    next.work = work;
    next.argument = argument;
    __atomic_store_n(&next.begun, true, __ATOMIC_RELEASE);
}

void second_vcpu_wait(void)
{
    while (__atomic_load_n(&next.begun, __ATOMIC_ACQUIRE))
        sleep_ns(0);
}

static void make_job(void *job)
{
    make_operation(job);
}

void run_job(struct job *job)
{
    if (job->vcpu == 0) {
        make_operation(job);
        return;
    }
    second_vcpu_begin(make_job, job);
    second_vcpu_wait();
}
