/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "grant_map.h"
#include "shared.h"
#include "thread.h"
#include "xenstore.h"

/*
 * By dom0's clock, which goes on while a busy host lets nobody here compute: only so that a relay
 * that nobody has ended does not stay for ever.  Whether an agent is late is for the harness to say.
 */
#define COMES_S 1800u
#define SILENCE_S 600u
#define ENDED (-1) /* of attach and begin_session: our own stream has ended meanwhile */

static struct control *control;
static char *in_bytes, *out_bytes;

__attribute__((format(printf, 1, 2))) static int fail(const char *format, ...)
{
    va_list arguments;

    fputs("relay: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return 3;
}

static time_t seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void nap_ms(long ms)
{
    struct timespec nap = {0, ms * 1000000};

    nanosleep(&nap, NULL);
}

/* Whether nobody is left at the other end of stdin. */
static int hung_up(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLRDHUP};

    return poll(&input, 1, 0) > 0;
}

/* Wait until the domU's agent has written the grant of its control page to xenstore. */
static int find_grant(unsigned domid, uint32_t *ref)
{
    time_t deadline = seconds() + (time_t)COMES_S;
    char path[64], value[64];
    unsigned version;
    int error;

    snprintf(path, sizeof(path), "/local/domain/%u/" XENSTORE_KEY, domid);
    while ((error = xenstore_read(path, value, sizeof(value))) != 0) {
        if (seconds() >= deadline)
            return fail("no agent in domain %u after %u s: %s: %s", domid, COMES_S, path,
                        strerror(-error));
        if (hung_up())
            return ENDED;
        nap_ms(100);
    }
    if (sscanf(value, "%u %u", &version, ref) != 2 || version != SHARED_VERSION)
        return fail("the agent in domain %u is not of this version: %s", domid, value);
    return 0;
}

/* Map the control page and the rings.  Returns 0, ENDED, or an exit status. */
static int attach(unsigned domid)
{
    int fd = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);
    uint32_t ref, refs[SHARED_PAGES];
    int error = find_grant(domid, &ref);

    if (error)
        return error;
    control = grant_map(fd, domid, &ref, 1);
    if (!control)
        return fail("cannot map the pages of domain %u: %s", domid, strerror(errno));
    if (control->magic != SHARED_MAGIC || control->version != SHARED_VERSION)
        return fail("the page that domain %u has granted is not that of an agent", domid);
    memcpy(refs, control->refs, sizeof(refs));
    in_bytes = grant_map(fd, domid, refs, SHARED_PAGES);
    if (!in_bytes)
        return fail("cannot map the rings of domain %u: %s", domid, strerror(errno));
    out_bytes = in_bytes + PAGES_TO_DOMU * PAGE_BYTES;
    return 0;
}

/* Tell the agent that we have come, and wait until it has accepted us. */
static int begin_session(unsigned domid)
{
    time_t deadline = seconds() + COMES_S;

    __atomic_store_n(&control->session, control->session + 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&control->accepted, __ATOMIC_ACQUIRE) != control->session) {
        if (seconds() >= deadline)
            return fail("the agent in domain %u does not answer", domid);
        if (hung_up())
            return ENDED;
        nap_ms(2);
    }
    return 0;
}

/* Copy bytes to the domU.  Returns how many, 0 when there are none yet, -1 at the end of stdin. */
static ssize_t copy_to_domu(long wait_ns)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    struct timespec wait = {0, wait_ns};
    size_t at, room = ring_room(&control->to_domu, PAGES_TO_DOMU * PAGE_BYTES, &at);
    ssize_t got;

    if (room == 0)
        input.events = 0;
    if (ppoll(&input, 1, &wait, NULL) <= 0 || room == 0)
        return 0;
    got = read(STDIN_FILENO, in_bytes + at, room);
    if (got <= 0)
        return got < 0 && errno == EINTR ? 0 : -1;
    ring_produce(&control->to_domu, (size_t)got);
    return got;
}

/* Copy bytes from the domU.  Returns how many, 0 when there are none yet, -1 if stdout is gone. */
static ssize_t copy_from_domu(void)
{
    size_t at, count = ring_filled(&control->to_dom0, PAGES_TO_DOM0 * PAGE_BYTES, &at);
    ssize_t done;

    if (count == 0)
        return 0;
    done = write(STDOUT_FILENO, out_bytes + at, count);
    if (done < 0)
        return errno == EINTR ? 0 : -1;
    ring_consume(&control->to_dom0, (size_t)done);
    return done;
}

/* Copy until stdin ends or the agent is silent.  Returns an exit status. */
static int copy(unsigned domid)
{
    struct patience patience = {0};
    uint32_t heartbeat = control->heartbeat;
    time_t now = seconds();
    /* Counted in seconds in which we have looked, because the clock leaps when Xen is restored. */
    unsigned silence = 0;

    for (;;) {
        ssize_t in, out = copy_from_domu();
        time_t before = now;
        if (out > 0)
            patience.idle = 0;
        in = copy_to_domu(out > 0 ? 0 : patience_ns(&patience));
        if (in > 0)
            patience.idle = 0;
        if (in < 0 || out < 0)
            return 0;
        if (__atomic_load_n(&control->clock_wanted, __ATOMIC_ACQUIRE))
            clock_answer(control);
        now = seconds();
        if (__atomic_load_n(&control->heartbeat, __ATOMIC_ACQUIRE) != heartbeat) {
            heartbeat = control->heartbeat;
            silence = 0;
        } else if (now != before && ++silence > SILENCE_S) {
            return fail("the agent in domain %u has been silent for %u s", domid, SILENCE_S);
        }
    }
}

int relay_main(unsigned domid)
{
    int status;

    thread_urgent(true);
    status = attach(domid);
    if (status == 0)
        status = begin_session(domid);
    if (status == 0)
        status = copy(domid);
    if (control)
        __atomic_store_n(&control->left, control->session, __ATOMIC_RELEASE);
    return status == ENDED ? 0 : status;
}
