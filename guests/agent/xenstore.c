/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xenstore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "xen_abi.h"

#define MAX_PAYLOAD 4096u

static int read_fully(int fd, void *bytes, size_t count)
{
    char *at = bytes;

    while (count) {
        ssize_t got = read(fd, at, count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EPIPE;
        at += got;
        count -= (size_t)got;
    }
    return 0;
}

/* Send a request with `payload`, and replace it by the payload of the answer. */
static int exchange(int fd, uint32_t type, char *payload, size_t *length)
{
    struct {
        struct xenstore_header header;
        char payload[MAX_PAYLOAD];
    } message = {.header = {type, 1, 0, (uint32_t)*length}};
    size_t size = sizeof(message.header) + *length;
    int error;

    memcpy(message.payload, payload, *length);
    if (write(fd, &message, size) != (ssize_t)size)
        return -EIO;
    do {
        error = read_fully(fd, &message.header, sizeof(message.header));
        if (error)
            return error;
        if (message.header.length > MAX_PAYLOAD)
            return -EPROTO;
        error = read_fully(fd, message.payload, message.header.length);
        if (error)
            return error;
    } while (message.header.request != 1);
    *length = message.header.length;
    memcpy(payload, message.payload, *length);
    if (message.header.type == XS_ERROR)
        return *length >= 6 && memcmp(payload, "ENOENT", 6) == 0 ? -ENOENT : -EACCES;
    return 0;
}

static int request(uint32_t type, char *payload, size_t *length)
{
    int fd = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC);
    int error;

    if (fd < 0)
        return -errno;
    error = exchange(fd, type, payload, length);
    close(fd);
    return error;
}

int xenstore_write(const char *path, const char *value)
{
    char payload[MAX_PAYLOAD];
    size_t key = strlen(path) + 1;
    size_t length = key + strlen(value);

    if (length > sizeof(payload))
        return -E2BIG;
    memcpy(payload, path, key);
    memcpy(payload + key, value, length - key);
    return request(XS_WRITE, payload, &length);
}

int xenstore_read(const char *path, char *value, size_t room)
{
    char payload[MAX_PAYLOAD];
    size_t length = strlen(path) + 1;
    int error;

    if (length > sizeof(payload))
        return -E2BIG;
    memcpy(payload, path, length);
    error = request(XS_READ, payload, &length);
    if (error)
        return error;
    if (length >= room)
        return -E2BIG;
    memcpy(value, payload, length);
    value[length] = '\0';
    return 0;
}
