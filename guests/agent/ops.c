/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define NOT_MAPPED ((void *)16)
#define POLLED_AT (PAGE_BYTES / 2) /* in the argument's page: the ports to poll */

static int privcmd = -1;
static int handle_fd[HANDLES];
static int domid = -ENODEV;

int ops_open(void)
{
    memset(handle_fd, -1, sizeof(handle_fd));
    privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    return privcmd < 0 ? -errno : 0;
}

static int64_t hypercall(uint64_t number, uint64_t first, void *second)
{
    struct privcmd_hypercall call = {number, {first, (uintptr_t)second, 0, 0, 0}};
    int result = ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call);

    return result < 0 ? -errno : result;
}

/*
 * Linux may move even locked pages of ours about; memory of /dev/xen/hypercall stays where it
 * is, so that Xen never answers EFAULT.  Kernels before 4.18 have no such device.
 */
static void *resident_page(void)
{
    void *page = MAP_FAILED;
    int fd = open("/dev/xen/hypercall", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (page == MAP_FAILED)
        page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || (mlock(page, PAGE_BYTES) < 0 && fd < 0))
        return NULL;
    memset(page, 0, PAGE_BYTES);
    return page;
}

/* A copy of the argument that Xen can only read. */
static void *read_only_copy(struct actor *a)
{
    if (!a->read_only)
        a->read_only = resident_page();
    if (!a->read_only || mprotect(a->read_only, PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
        return NOT_MAPPED;
    memcpy(a->read_only, a->arg, PAGE_BYTES);
    mprotect(a->read_only, PAGE_BYTES, PROT_READ);
    return a->read_only;
}

/* The address of its argument that Xen is given. */
static void *argument(struct actor *a)
{
    switch (a->fault) {
    case FAULT_IN:
        return NOT_MAPPED;
    case FAULT_OUT:
        return read_only_copy(a);
    default:
        return a->arg;
    }
}

int raw_hypercall(struct actor *a, uint64_t number, uint64_t first)
{
    return (int)hypercall(number, first, argument(a));
}

int actor_create(struct actor *a, uint16_t thread, uint16_t vcpu, size_t records)
{
    memset(a, 0, sizeof(*a));
    a->thread = thread;
    a->vcpu = vcpu;
    a->arg = resident_page();
    return a->arg ? buffer_create(&a->log, records) : -ENOMEM;
}

void actor_destroy(struct actor *a)
{
    munmap(a->arg, PAGE_BYTES);
    if (a->read_only)
        munmap(a->read_only, PAGE_BYTES);
    buffer_destroy(&a->log);
}

void actor_restart(struct actor *a, uint32_t run)
{
    struct page_header head = {
        .tick_hz = ticks_hz(),
        .run = run,
        .domid = domid < 0 ? UINT16_MAX : (uint16_t)domid,
        .thread = a->thread,
        .vcpu = a->vcpu,
    };
    buffer_restart(&a->log, &head);
}

int actor_pin(const struct actor *a)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(a->vcpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

void thread_urgent(bool urgent)
{
    /* Linux's priorities are per thread; without the right to it, things are merely slower. */
    setpriority(PRIO_PROCESS, (id_t)gettid(), urgent ? -15 : 0);
}

int xen_version(struct actor *a)
{
    return privcmd < 0 ? -ENODEV
                       : (int)hypercall(HYPERCALL_XEN_VERSION, XENVER_VERSION, a->arg);
}

int own_domid(struct actor *a)
{
    struct channel_status status;
    int port;

    if (privcmd < 0)
        return -ENODEV;
    if (domid >= 0)
        return domid;
    port = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);
    if (port < 0)
        return port;
    if (raw_status(a, (uint32_t)port, &status) == 0)
        domid = (int)status.remote;
    raw_close(a, (uint32_t)port);
    return domid;
}

/* --- raw --- */

static int raw(struct actor *a, enum op op, uint32_t port, uint32_t arg, unsigned command)
{
    struct record *r = record_call(&a->log, op, VIA_RAW, port, arg, a->vcpu);
    int result = raw_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, command);

    record_return(&a->log, r, result);
    return result;
}

/* The same for operations that answer with a new port. */
static int raw_new(struct actor *a, enum op op, uint32_t port, uint32_t arg, unsigned command,
                   const uint32_t *new_port)
{
    struct record *r = record_call(&a->log, op, VIA_RAW, port, arg, a->vcpu);
    int result = raw_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, command);

    if (result == 0)
        result = (int)*new_port;
    record_return(&a->log, r, result);
    return result;
}

int raw_alloc_unbound(struct actor *a, uint16_t owner, uint16_t remote)
{
    int port;

    a->arg->alloc_unbound.owner = owner;
    a->arg->alloc_unbound.remote = remote;
    port = raw_new(a, OP_ALLOC_UNBOUND, owner, remote, EVTCHNOP_ALLOC_UNBOUND,
                   &a->arg->alloc_unbound.port);
    if (owner == DOMID_SELF || (int)owner == domid)
        port_is_raw(port);
    return port;
}

int raw_bind_interdomain(struct actor *a, uint16_t remote, uint32_t remote_port)
{
    int port;

    a->arg->bind_interdomain.remote = remote;
    a->arg->bind_interdomain.remote_port = remote_port;
    port = raw_new(a, OP_BIND_INTERDOMAIN, remote_port, remote, EVTCHNOP_BIND_INTERDOMAIN,
                   &a->arg->bind_interdomain.port);
    port_is_raw(port);
    return port;
}

int raw_bind_virq(struct actor *a, uint32_t virq, uint32_t vcpu)
{
    int port;

    a->arg->bind_virq.virq = virq;
    a->arg->bind_virq.vcpu = vcpu;
    port = raw_new(a, OP_BIND_VIRQ, virq, vcpu, EVTCHNOP_BIND_VIRQ, &a->arg->bind_virq.port);
    port_is_raw(port);
    return port;
}

int raw_bind_ipi(struct actor *a, uint32_t vcpu)
{
    int port;

    a->arg->bind_ipi.vcpu = vcpu;
    port = raw_new(a, OP_BIND_IPI, 0, vcpu, EVTCHNOP_BIND_IPI, &a->arg->bind_ipi.port);
    port_is_raw(port);
    return port;
}

int raw_close(struct actor *a, uint32_t port)
{
    bool ours;
    int result;

    if (port_owner(port) & OWNED_DEVICE)
        return -EPERM; /* Linux would go on using it */
    ours = port_release_raw(port);
    a->arg->one_port.port = port;
    result = raw(a, OP_CLOSE, port, 0, EVTCHNOP_CLOSE);
    if (result < 0 && ours)
        port_is_raw((int)port);
    return result;
}

int raw_send(struct actor *a, uint32_t port)
{
    a->arg->one_port.port = port;
    return raw(a, OP_SEND, port, 0, EVTCHNOP_SEND);
}

int raw_send_unrecorded(struct actor *a, uint32_t port)
{
    a->arg->one_port.port = port;
    return (int)hypercall(HYPERCALL_EVENT_CHANNEL_OP, EVTCHNOP_SEND, a->arg);
}

int raw_status(struct actor *a, uint32_t port, struct channel_status *status)
{
    return raw_status_of(a, DOMID_SELF, port, status);
}

int raw_status_of(struct actor *a, uint16_t owner, uint32_t port, struct channel_status *status)
{
    struct record *r;
    int result;

    memset(a->arg, 0, sizeof(*a->arg));
    a->arg->status.owner = owner;
    a->arg->status.port = port;
    r = record_call(&a->log, OP_STATUS, VIA_RAW, port, 0, a->vcpu);
    result = raw_hypercall(a, HYPERCALL_EVENT_CHANNEL_OP, EVTCHNOP_STATUS);
    memset(status, 0, sizeof(*status));
    if (result == 0) {
        status->state = a->arg->status.state;
        status->vcpu = a->arg->status.vcpu;
        if (status->state == EVTCHNSTAT_UNBOUND)
            status->remote = a->arg->status.u.unbound.remote;
        if (status->state == EVTCHNSTAT_INTERDOMAIN) {
            status->remote = a->arg->status.u.interdomain.remote;
            status->detail = a->arg->status.u.interdomain.port;
        }
        if (status->state == EVTCHNSTAT_VIRQ || status->state == EVTCHNSTAT_PIRQ)
            status->detail = a->arg->status.u.irq;
        r->arg = status->detail;
        record_return(&a->log, r,
                      (int)(status->state | (status->vcpu & 0xff) << 8 | status->remote << 16));
    } else {
        record_return(&a->log, r, result);
    }
    return result;
}

int raw_bind_vcpu(struct actor *a, uint32_t port, uint32_t vcpu)
{
    a->arg->port_value.port = port;
    a->arg->port_value.value = vcpu;
    return raw(a, OP_BIND_VCPU, port, vcpu, EVTCHNOP_BIND_VCPU);
}

int raw_unmask(struct actor *a, uint32_t port)
{
    a->arg->one_port.port = port;
    return raw(a, OP_UNMASK, port, 0, EVTCHNOP_UNMASK);
}

int raw_set_priority(struct actor *a, uint32_t port, uint32_t priority)
{
    a->arg->port_value.port = port;
    a->arg->port_value.value = priority;
    return raw(a, OP_SET_PRIORITY, port, priority, EVTCHNOP_SET_PRIORITY);
}

int raw_debug_key(struct actor *a, char key)
{
    int result = -EACCES;

    /* A wrong version is refused with EACCES, and changes nothing. */
    for (uint32_t version = 0x10; version < 0x30 && result == -EACCES; version++) {
        memset(a->arg, 0, sizeof(*a->arg));
        a->arg->debug_keys.command = SYSCTL_DEBUG_KEYS;
        a->arg->debug_keys.version = version;
        a->arg->debug_keys.keys = (uintptr_t)&a->arg->debug_keys.key;
        a->arg->debug_keys.count = 1;
        a->arg->debug_keys.key = key;
        result = privcmd < 0 ? -ENODEV : (int)hypercall(HYPERCALL_SYSCTL, (uintptr_t)a->arg, NULL);
    }
    return result;
}

/*
 * The time-out lies in the past, so the vCPU is never away for long: no clock of the guest
 * tells Xen's system time, and a wrong guess would block for as long as it is wrong.
 */
int raw_poll(struct actor *a, uint32_t port)
{
    return raw_poll_many(a, &port, 1, 1); /* 0 would mean: for ever */
}

int raw_poll_many(struct actor *a, const uint32_t *ports, unsigned count, uint64_t timeout)
{
    uint32_t *polled = (uint32_t *)((char *)a->arg + POLLED_AT);
    struct record *r;
    int result;

    memcpy(polled, ports, count * sizeof(*ports));
    a->arg->poll.ports = (uintptr_t)polled;
    a->arg->poll.count = count;
    a->arg->poll.timeout = timeout;
    r = record_call(&a->log, OP_POLL, VIA_RAW, count ? ports[0] : 0, 0, a->vcpu);
    result = raw_hypercall(a, HYPERCALL_SCHED_OP, SCHEDOP_POLL);
    record_return(&a->log, r, result);
    return result;
}

/* --- device --- */

static int device(unsigned handle)
{
    if (handle >= HANDLES)
        return -EBADF;
    if (handle_fd[handle] < 0) {
        int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return -errno;
        handle_fd[handle] = fd;
    }
    return handle_fd[handle];
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
    int result = device(handle);

    if (result < 0)
        return result;
    result = device_ioctl(
        a, handle, record_call(&a->log, OP_ALLOC_UNBOUND, VIA_DEVICE, DOMID_SELF, remote, a->vcpu),
        IOCTL_EVTCHN_BIND_UNBOUND, &argument);
    port_is_of(result, handle);
    return result;
}

int device_bind_interdomain(struct actor *a, unsigned handle, uint16_t remote, uint32_t remote_port)
{
    struct evtchn_bind_interdomain argument = {remote, remote_port};
    int result = device(handle);

    if (result < 0)
        return result;
    result = device_ioctl(
        a, handle,
        record_call(&a->log, OP_BIND_INTERDOMAIN, VIA_DEVICE, remote_port, remote, a->vcpu),
        IOCTL_EVTCHN_BIND_INTERDOMAIN, &argument);
    port_is_of(result, handle);
    return result;
}

int device_bind_virq(struct actor *a, unsigned handle, uint32_t virq)
{
    uint32_t argument = virq;
    int result = device(handle);

    if (result < 0)
        return result;
    result = device_ioctl(a, handle,
                          record_call(&a->log, OP_BIND_VIRQ, VIA_DEVICE, virq, 0, a->vcpu),
                          IOCTL_EVTCHN_BIND_VIRQ, &argument);
    port_is_of(result, handle);
    return result;
}

int device_unbind(struct actor *a, unsigned handle, uint32_t port)
{
    uint32_t argument = port;
    bool ours;
    int result = device(handle);

    if (result < 0)
        return result;
    ours = port_release_of(port, handle);
    result = device_ioctl(a, handle,
                          record_call(&a->log, OP_CLOSE, VIA_DEVICE, port, 0, a->vcpu),
                          IOCTL_EVTCHN_UNBIND, &argument);
    if (result < 0 && result != -ENOTCONN && ours) /* ENOTCONN: this handle has no such port */
        port_is_of((int)port, handle);
    return result;
}

int device_notify(struct actor *a, unsigned handle, uint32_t port)
{
    uint32_t argument = port;
    int result = device(handle);

    if (result < 0)
        return result;
    return device_ioctl(a, handle, record_call(&a->log, OP_SEND, VIA_DEVICE, port, 0, a->vcpu),
                        IOCTL_EVTCHN_NOTIFY, &argument);
}

int device_enable(struct actor *a, unsigned handle, const uint32_t *ports, unsigned count)
{
    int fd = device(handle);

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
    struct pollfd wait = {.fd = device(handle), .events = POLLIN};
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
