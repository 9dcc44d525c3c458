/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loaded before a toolstack that was built from the headers of another Xen, which were proved to
 * say the same: puts the version that the running Xen asks for into every domctl and sysctl.
 *
 * All hypercalls of Xen's libraries go through one ioctl of /dev/xen/privcmd
 * (tools/libs/call/linux.c).  Both operations begin with a 32-bit command and the 32-bit version
 * (xen/include/public/domctl.h, sysctl.h).
 */
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As Linux has them in include/uapi/xen/privcmd.h. */
struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

enum { SYSCTL = 35, DOMCTL = 36 }; /* __HYPERVISOR_sysctl, __HYPERVISOR_domctl */

static void present(const struct privcmd_hypercall *call)
{
    uint32_t *words = (uint32_t *)(uintptr_t)call->arg[0];

    if (call->op == DOMCTL && words[1] == HAS_DOMCTL) {
        words[1] = WANTED_DOMCTL;
    } else if (call->op == SYSCTL && words[1] == HAS_SYSCTL) {
        words[1] = WANTED_SYSCTL;
    }
}

int ioctl(int file, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (request == IOCTL_PRIVCMD_HYPERCALL) {
        present(argument);
    }
    return (int)syscall(SYS_ioctl, file, request, argument);
}
