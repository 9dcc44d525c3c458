/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "grant_map.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "linux_abi.h"
#include "record.h"

void *grant_map(int fd, unsigned domid, const uint32_t *refs, uint32_t count)
{
    struct gntdev_map *request = calloc(1, sizeof(*request) + count * sizeof(request->refs[0]));
    void *pages = MAP_FAILED;

    if (!request)
        return NULL;
    request->count = count;
    for (uint32_t i = 0; i < count; i++)
        request->refs[i] = (struct gntdev_ref){domid, refs[i]};
    if (ioctl(fd, IOCTL_GNTDEV_MAP, request) == 0)
        pages = mmap(NULL, count * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                     (off_t)request->index);
    free(request);
    return pages == MAP_FAILED ? NULL : pages;
}
