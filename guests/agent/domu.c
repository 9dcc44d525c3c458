/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "domu.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "linux_abi.h"
#include "shared.h"
#include "xenstore.h"

static struct control *control;
static char *in_bytes, *out_bytes;

/* Allocate pages that dom0 may map and write to; `refs` get their grants. */
static void *grant(int fd, uint32_t count, uint32_t *refs)
{
    struct gntalloc_alloc *request = calloc(1, sizeof(*request) + (count + 1) * sizeof(uint32_t));
    void *pages = MAP_FAILED;

    if (!request)
        return NULL;
    request->flags = GNTALLOC_WRITABLE;
    request->count = count;
    if (ioctl(fd, IOCTL_GNTALLOC_ALLOC, request) == 0) {
        memcpy(refs, request->refs, count * sizeof(*refs));
        pages = mmap(NULL, count * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                     (off_t)request->index);
    }
    free(request);
    return pages == MAP_FAILED ? NULL : pages;
}

/* Grant dom0 the control page and the rings, and write the control page's grant to xenstore. */
static int grant_rings(void)
{
    int fd = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC);
    uint32_t ref;
    char value[32];

    if (fd < 0)
        return -errno;
    control = grant(fd, 1, &ref);
    if (!control)
        return -errno;
    in_bytes = grant(fd, SHARED_PAGES, control->refs);
    if (!in_bytes)
        return -errno;
    out_bytes = in_bytes + PAGES_TO_DOMU * PAGE_BYTES;
    control->version = SHARED_VERSION;
    __atomic_store_n(&control->magic, SHARED_MAGIC, __ATOMIC_RELEASE);
    snprintf(value, sizeof(value), "%u %u", SHARED_VERSION, ref);
    return xenstore_write(XENSTORE_KEY, value);
}

/* Sleep, the longer the longer nothing has happened. */
static void wait(struct patience *p)
{
    struct timespec nap = {0, patience_ns(p)};

    if (nap.tv_nsec)
        nanosleep(&nap, NULL);
    else
        sched_yield();
}

/* A thread of its own changes the heartbeat, because a command may take long. */
static void *heartbeat_main(void *unused)
{
    struct timespec nap = {0, 250000000};

    (void)unused;
    for (;;) {
        __atomic_store_n(&control->heartbeat, control->heartbeat + 1, __ATOMIC_RELEASE);
        nanosleep(&nap, NULL);
    }
    return NULL;
}

/* Whether the relay that we have accepted has left, or another has come. */
static int relay_gone(void)
{
    return __atomic_load_n(&control->session, __ATOMIC_ACQUIRE) != control->accepted ||
           __atomic_load_n(&control->left, __ATOMIC_ACQUIRE) == control->accepted;
}

static ssize_t read_ring(struct stream *s, void *bytes, size_t room)
{
    struct patience patience = {0};
    size_t at, count;

    (void)s;
    while ((count = ring_filled(&control->to_domu, PAGES_TO_DOMU * PAGE_BYTES, &at)) == 0) {
        if (relay_gone())
            return 0;
        wait(&patience);
    }
    if (count > room)
        count = room;
    memcpy(bytes, in_bytes + at, count);
    ring_consume(&control->to_domu, count);
    return (ssize_t)count;
}

static int write_ring(struct stream *s, const void *bytes, size_t count)
{
    struct patience patience = {0};
    const char *from = bytes;

    (void)s;
    while (count) {
        size_t at, room = ring_room(&control->to_dom0, PAGES_TO_DOM0 * PAGE_BYTES, &at);
        if (relay_gone())
            return -1;
        if (room == 0) {
            wait(&patience);
            continue;
        }
        patience.idle = 0;
        if (room > count)
            room = count;
        memcpy(out_bytes + at, from, room);
        ring_produce(&control->to_dom0, room);
        from += room;
        count -= room;
    }
    return 0;
}

/* Wait for a relay, and begin a session with it. */
static void accept_relay(void)
{
    struct patience patience = {0};

    while (relay_gone())
        if (__atomic_load_n(&control->session, __ATOMIC_ACQUIRE) != control->accepted) {
            memset(&control->to_domu, 0, sizeof(control->to_domu));
            memset(&control->to_dom0, 0, sizeof(control->to_dom0));
            __atomic_store_n(&control->accepted, control->session, __ATOMIC_RELEASE);
        } else {
            wait(&patience);
        }
}

int domu_main(const struct service *service)
{
    struct stream stream = {read_ring, write_ring};
    pthread_t heartbeat;
    int error = grant_rings();

    if (!error)
        error = -pthread_create(&heartbeat, NULL, heartbeat_main, NULL);
    if (error) {
        fprintf(stderr, "agent: cannot offer pages to dom0: %s\n", strerror(-error));
        return 1;
    }
    clock_peer = control;
    for (;;) {
        accept_relay();
        session_run(&stream, service);
    }
}
