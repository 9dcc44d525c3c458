/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hypercall.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux_abi.h"
#include "record.h"

/* An entry of /proc/self/pagemap, one for each page of ours. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_FRAME ((1ull << 55) - 1)

static int privcmd = -1;

int hypercall_open(void)
{
    privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    return privcmd < 0 ? -errno : 0;
}

bool hypercall_ready(void)
{
    return privcmd >= 0;
}

int hypercall(uint64_t number, uint64_t first, void *second)
{
    struct privcmd_hypercall call = {number, {first, (uintptr_t)second, 0, 0, 0}};
    int result = ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call);

    return result < 0 ? -errno : result;
}

/*
 * Linux may move even locked pages of ours about; memory of /dev/xen/hypercall stays where it
 * is, so that Xen never answers EFAULT.  Kernels before 4.18 have no such device.
 */
void *hypercall_page(void)
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

uint64_t hypercall_frame(const void *page)
{
    uint64_t entry = 0;
#ifdef __x86_64__
    (void)page; /* a PV guest's Linux and Xen number frames differently: it would be another one */
#else
    off_t at = (off_t)((uintptr_t)page / PAGE_BYTES * sizeof(entry));
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (pread(fd, &entry, sizeof(entry), at) != (ssize_t)sizeof(entry))
        entry = 0;
    close(fd);
#endif
    return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_FRAME : 0;
}
