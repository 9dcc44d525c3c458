/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "second_vcpu.h"

#include "xen.h"

#define IDLE_NS 500000ull

/* What vCPU 1 is to do; it sets this to NULL when it has done it. */
static struct job *second_vcpu_job;

void second_vcpu_main(void); /* start-*.S calls it */

void second_vcpu_main(void)
{
    for (;;) {
        struct job *job = __atomic_load_n(&second_vcpu_job, __ATOMIC_ACQUIRE);
        if (job) {
            make_operation(job);
            __atomic_store_n(&second_vcpu_job, NULL, __ATOMIC_RELEASE);
        } else {
            sleep_ns(IDLE_NS);
        }
    }
}

void run_job(struct job *job)
{
    if (job->vcpu == 0) {
        make_operation(job);
        return;
    }
    __atomic_store_n(&second_vcpu_job, job, __ATOMIC_RELEASE);
    while (__atomic_load_n(&second_vcpu_job, __ATOMIC_ACQUIRE))
        sleep_ns(0);
}
