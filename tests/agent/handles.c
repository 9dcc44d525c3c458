/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two threads use a handle of the device for the first time at once; exits 0 if they share a file. */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HANDLE 3

static pthread_barrier_t both_are_opening;
static __thread int file_read;
static int opened[2], closed, count;

/* Instead of the C library's: /dev/xen/evtchn, which both threads find not opened yet. */
int open(const char *path, int flags, ...)
{
    int fd = eventfd(0, EFD_NONBLOCK);

    (void)path;
    (void)flags;
    opened[__atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST)] = fd;
    pthread_barrier_wait(&both_are_opening);
    return fd;
}

int close(int fd)
{
    __atomic_store_n(&closed, fd, __ATOMIC_SEQ_CST);
    return 0;
}

ssize_t read(int fd, void *bytes, size_t room)
{
    (void)bytes;
    (void)room;
    file_read = fd;
    errno = EAGAIN;
    return -1;
}

static void *use_handle(void *actor)
{
    uint32_t port;

    device_read(actor, HANDLE, &port, 1, 0);
    return (void *)(intptr_t)file_read;
}

int main(void)
{
    struct actor actors[2] = {0};
    pthread_t threads[2];
    void *used[2];

    pthread_barrier_init(&both_are_opening, NULL, 2);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, use_handle, &actors[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &used[i]);
    printf("opened %d and %d, closed %d, used %d and %d\n", opened[0], opened[1], closed,
           (int)(intptr_t)used[0], (int)(intptr_t)used[1]);
    return count != 2 || used[0] != used[1] || closed == (int)(intptr_t)used[0] || !closed;
}
