/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of Linux's interface to Xen that the agent uses: its devices' ioctls. */
#ifndef AGENT_LINUX_ABI_H
#define AGENT_LINUX_ABI_H

#include <stdint.h>
#include <sys/ioctl.h>

/* /dev/xen/privcmd */
struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

/* /dev/xen/evtchn */
struct evtchn_bind_interdomain {
    uint32_t remote;
    uint32_t remote_port;
};
#define IOCTL_EVTCHN_BIND_VIRQ _IOC(_IOC_NONE, 'E', 0, sizeof(uint32_t))
#define IOCTL_EVTCHN_BIND_INTERDOMAIN _IOC(_IOC_NONE, 'E', 1, sizeof(struct evtchn_bind_interdomain))
#define IOCTL_EVTCHN_BIND_UNBOUND _IOC(_IOC_NONE, 'E', 2, sizeof(uint32_t))
#define IOCTL_EVTCHN_UNBIND _IOC(_IOC_NONE, 'E', 3, sizeof(uint32_t))
#define IOCTL_EVTCHN_NOTIFY _IOC(_IOC_NONE, 'E', 4, sizeof(uint32_t))

/* /dev/xen/gntalloc (in the domU: pages of ours that dom0 may map) */
struct gntalloc_alloc {
    uint16_t domid;
    uint16_t flags;
    uint32_t count;
    uint64_t index; /* out: the offset to mmap */
    uint32_t refs[]; /* out */
};
#define GNTALLOC_WRITABLE 1
#define IOCTL_GNTALLOC_ALLOC _IOC(_IOC_NONE, 'G', 5, sizeof(struct gntalloc_alloc) + 8)

/* /dev/xen/gntdev (in dom0: maps them) */
struct gntdev_ref {
    uint32_t domid;
    uint32_t ref;
};
struct gntdev_map {
    uint32_t count;
    uint32_t pad;
    uint64_t index; /* out: the offset to mmap */
    struct gntdev_ref refs[];
};
#define IOCTL_GNTDEV_MAP _IOC(_IOC_NONE, 'G', 0, sizeof(struct gntdev_map) + 8)

#endif
