/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "thread.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

int thread_pin(unsigned vcpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(vcpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

void thread_urgent(bool urgent)
{
    /* Linux's priorities are per thread; without the right to it, things are merely slower. */
    setpriority(PRIO_PROCESS, (id_t)gettid(), urgent ? -15 : 0);
}
