/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "buffer.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

int buffer_create(struct buffer *b, size_t records)
{
    size_t count = (records + RECORDS_PER_PAGE - 1) / RECORDS_PER_PAGE;
    void *memory = mmap(NULL, count * PAGE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    if (mlock(memory, count * PAGE_BYTES) < 0) {
        int error = -errno;
        munmap(memory, count * PAGE_BYTES);
        return error;
    }
    memset(b, 0, sizeof(*b));
    b->pages = memory;
    b->page_count = count;
    return 0;
}

void buffer_destroy(struct buffer *b)
{
    munmap(b->pages, b->page_count * PAGE_BYTES);
}

void buffer_restart(struct buffer *b, const struct page_header *head)
{
    memset(b->pages, 0, b->page_count * sizeof(*b->pages));
    for (size_t i = 0; i < b->page_count; i++) {
        b->pages[i].header = *head;
        b->pages[i].header.magic = PAGE_MAGIC;
        b->pages[i].header.page = (uint32_t)i;
        b->pages[i].header.records = RECORDS_PER_PAGE;
    }
    memset(&b->spare, 0, sizeof(b->spare));
    b->next = b->pages[0].records;
    b->end = (struct record *)(b->pages + b->page_count);
    b->done = 0;
    b->lost = 0;
}

size_t buffer_used_pages(const struct buffer *b)
{
    const struct record *next = __atomic_load_n(&b->next, __ATOMIC_ACQUIRE);
    size_t slots = (size_t)(next - (const struct record *)b->pages);
    size_t page = slots / (RECORDS_PER_PAGE + 1);
    bool begun = slots % (RECORDS_PER_PAGE + 1) > 1; /* slot 0 is the header */

    return page + (begun || record_in_flight(b) ? 1 : 0);
}

size_t buffer_room(const struct buffer *b)
{
    size_t slots = (size_t)(b->end - b->next);

    return b->next >= b->end ? 0 : slots - slots / (RECORDS_PER_PAGE + 1);
}
