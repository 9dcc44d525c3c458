/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "linux_abi.h"

static int handle_fd[HANDLES]; /* 0: not opened yet */

/* The handle's file, opened if need be; -errno when it cannot be. */
static int open_handle(unsigned handle)
{
    int fd, opened = 0;

    if (handle >= HANDLES)
        return -EBADF;
    fd = __atomic_load_n(&handle_fd[handle], __ATOMIC_ACQUIRE);
    if (fd)
        return fd;
    fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (__atomic_compare_exchange_n(&handle_fd[handle], &opened, fd, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return fd;
    close(fd); /* another thread was quicker: `opened` is its file */
    return opened;
}

static int device_ioctl(struct actor *a, unsigned handle, struct record *r, unsigned long request,
                        void *argument)
{
    int result = ioctl(handle_fd[handle], request, argument);

    if (result < 0)
        result = -errno;
    record_return(&a->log, r, result);
    return result;
}

int device_bind_unbound(struct actor *a, unsigned handle, uint16_t remote)
{
    uint32_t argument = remote;
    int result = open_handle(handle);

    if (result < 0)
        return result;
    result = device_ioctl(
        a, handle, record_call(&a->log, OP_ALLOC_UNBOUND, VIA_DEVICE, DOMID_SELF, remote, a->vcpu),
        IOCTL_EVTCHN_BIND_UNBOUND, &argument);
    port_add_handle(result, handle);
    return result;
}

int device_bind_interdomain(struct actor *a, unsigned handle, uint16_t remote,
                            uint32_t remote_port)
{
    struct evtchn_bind_interdomain argument = {remote, remote_port};
    int result = open_handle(handle);

    if (result < 0)
        return result;
    result = device_ioctl(
        a, handle,
        record_call(&a->log, OP_BIND_INTERDOMAIN, VIA_DEVICE, remote_port, remote, a->vcpu),
        IOCTL_EVTCHN_BIND_INTERDOMAIN, &argument);
    port_add_handle(result, handle);
    return result;
}

int device_bind_virq(struct actor *a, unsigned handle, uint32_t virq)
{
    uint32_t argument = virq;
    int result = open_handle(handle);

    if (result < 0)
        return result;
    result = device_ioctl(a, handle,
                          record_call(&a->log, OP_BIND_VIRQ, VIA_DEVICE, virq, 0, a->vcpu),
                          IOCTL_EVTCHN_BIND_VIRQ, &argument);
    port_add_handle(result, handle);
    return result;
}

int device_unbind(struct actor *a, unsigned handle, uint32_t port)
{
    uint32_t argument = port;
    bool ours;
    int result = open_handle(handle);

    if (result < 0)
        return result;
    ours = port_remove_handle(port, handle);
    result = device_ioctl(a, handle,
                          record_call(&a->log, OP_CLOSE, VIA_DEVICE, port, 0, a->vcpu),
                          IOCTL_EVTCHN_UNBIND, &argument);
    if (result < 0 && result != -ENOTCONN && ours) /* ENOTCONN: this handle has no such port */
        port_add_handle((int)port, handle);
    return result;
}

int device_notify(struct actor *a, unsigned handle, uint32_t port)
{
    uint32_t argument = port;
    int result = open_handle(handle);

    if (result < 0)
        return result;
    return device_ioctl(a, handle, record_call(&a->log, OP_SEND, VIA_DEVICE, port, 0, a->vcpu),
                        IOCTL_EVTCHN_NOTIFY, &argument);
}

int device_enable(struct actor *a, unsigned handle, const uint32_t *ports, unsigned count)
{
    int fd = open_handle(handle);

    if (fd < 0)
        return fd;
    for (unsigned i = 0; i < count; i++) {
        struct record *r = record_call(&a->log, OP_ENABLE, VIA_DEVICE, ports[i], 0, a->vcpu);
        int result = write(fd, &ports[i], sizeof(ports[i])) < 0 ? -errno : 0;
        record_return(&a->log, r, result);
        if (result < 0)
            return result;
    }
    return (int)count;
}

int device_read(struct actor *a, unsigned handle, uint32_t *ports, unsigned room, int timeout_ms)
{
    struct pollfd wait = {.fd = open_handle(handle), .events = POLLIN};
    unsigned count;

    if (wait.fd < 0)
        return wait.fd;
    if (timeout_ms > 0 && poll(&wait, 1, timeout_ms) < 0)
        return -errno;
    for (count = 0; count < room; count++) {
        /* One event at a time, so that each has an interval of its own. */
        uint64_t call = ticks();
        if (read(wait.fd, &ports[count], sizeof(ports[count])) < 0) {
            if (errno == EAGAIN)
                break;
            return -errno;
        }
        record_event(&a->log, call, ports[count], a->vcpu);
    }
    return (int)count;
}
