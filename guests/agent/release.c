/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "release.h"

#include <time.h>

#include "device.h"

#define PASSES 5 /* Xen refuses a close while the other end is being closed */

/* Returns how many ports Xen or Linux has refused to close. */
static int close_all(struct actor *a)
{
    int left = 0;

    for (uint32_t port = 0; port < MAX_PORTS; port++) {
        for (unsigned handle = 0; handle < HANDLES; handle++)
            if (port_handles(port) >> handle & 1)
                left += device_unbind(a, handle, port) < 0;
        if (port_owner(port) & OWNED_RAW)
            left += raw_close(a, port) < 0;
    }
    return left;
}

/* Ask Xen about every port that we have owned; list those that are not closed. */
static void ask_for_all(struct actor *a, struct job *job)
{
    job->a = 0;
    job->count = 0;
    for (uint32_t port = 0; port < MAX_PORTS; port++) {
        struct channel_status status;
        if (!port_owner(port))
            continue;
        job->a++;
        if (raw_status(a, port, &status) != 0 || status.state != EVTCHNSTAT_CLOSED)
            if (job->count < MAX_NUMBERS)
                job->numbers[job->count++] = port;
    }
}

int release_all(struct actor *a, struct job *job)
{
    struct timespec nap = {0, 50000000};

    for (int pass = 0; pass < PASSES && close_all(a); pass++)
        ;
    ask_for_all(a, job);
    /* Linux closes some ports of its device a little later. */
    for (int pass = 0; pass < PASSES && job->count; pass++) {
        nanosleep(&nap, NULL);
        ask_for_all(a, job);
    }
    forget_closed_ports();
    return (int)job->count;
}
