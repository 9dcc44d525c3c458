/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the agent writes down for every operation, and the pages it writes to.
 * harness/history/format/record.py is the same layout in Python; a test compares the two.
 *
 * A buffer is many 4096-byte pages, each made of a 32-byte header and 127 records.  The headers
 * are for somebody who has only the machine's physical memory, because the hypervisor hangs or the
 * guest is dead: they let him find every page, and put the pages in order again.
 */
#ifndef AGENT_RECORD_H
#define AGENT_RECORD_H

#include <stdint.h>

enum op {
    OP_ALLOC_UNBOUND = 1,
    OP_BIND_INTERDOMAIN = 2,
    OP_BIND_VIRQ = 3,
    OP_BIND_IPI = 4,
    OP_CLOSE = 5,
    OP_SEND = 6,
    OP_STATUS = 7,
    OP_BIND_VCPU = 8,
    OP_UNMASK = 9,
    OP_SET_PRIORITY = 10,
    OP_POLL = 11,
    OP_RECV = 12,
    OP_ENABLE = 13,
};

enum via {
    VIA_RAW = 0,
    VIA_DEVICE = 1,
};

/* While the operation is in flight, ret is 0.  In a record that is not used yet, call is 0 too. */
struct record {
    uint64_t call;
    uint64_t ret;
    uint32_t port;
    uint32_t arg;
    int32_t result;
    uint16_t cpu;
    uint8_t op;
    uint8_t via;
};

#define PAGE_BYTES 4096u
#define RECORDS_PER_PAGE 127u
#define PAGE_MAGIC 0x474c4e4843545645ull /* the bytes "EVTCHNLG" */

struct page_header {
    uint64_t magic;
    uint64_t tick_hz;
    uint32_t run; /* number of the load (0: single operations); pages of other loads are stale */
    uint32_t page; /* place in the thread's buffer, from 0 */
    uint16_t domid;
    uint16_t thread;
    uint16_t vcpu;
    uint16_t records; /* how many records the page has room for */
};

struct page {
    struct page_header header;
    struct record records[RECORDS_PER_PAGE];
};

_Static_assert(sizeof(struct record) == 32, "the host reads 32-byte records");
_Static_assert(sizeof(struct page_header) == sizeof(struct record), "a header takes one slot");
_Static_assert(sizeof(struct page) == PAGE_BYTES, "a page of records is a page of memory");

#endif
