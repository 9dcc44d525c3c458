/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "grant_rings.h"

#include "events.h"
#include "memory.h"
#include "platform.h"
#include "xen.h"

#define FIRST_REF 8u /* Xen reserves those below for the toolstack */
#define PERMIT_ACCESS 1u /* GTF_permit_access */

struct grant {
    uint16_t flags;
    uint16_t domid;
    uint32_t frame;
};

struct xenstore_ring {
    char requests[1024];
    char answers[1024];
    uint32_t requests_consumed, requests_produced;
    uint32_t answers_consumed, answers_produced;
};

static struct grant grants[PAGE_BYTES / sizeof(struct grant)] PAGE_ALIGNED;
/* The control page, the rings, and the page of meetings. */
static char shared[(1 + SHARED_PAGES + 1) * PAGE_BYTES] PAGE_ALIGNED;

static uint32_t grant(unsigned page)
{
    uint32_t ref = FIRST_REF + page;

    grants[ref].domid = 0;
    grants[ref].frame = (uint32_t)platform()->frame(shared + page * PAGE_BYTES);
    __atomic_store_n(&grants[ref].flags, PERMIT_ACCESS, __ATOMIC_RELEASE);
    return ref;
}

/* Write a key below our own path, and wait until xenstored has answered. */
static void xenstore_write(const char *key, const char *value)
{
    uint32_t port;
    struct xenstore_ring *ring = platform()->map_xenstore(&port);
    uint32_t length = (uint32_t)(strlen(key) + 1 + strlen(value));
    struct xenstore_header header = {XS_WRITE, 1, 0, length};
    char message[128];
    uint32_t at = ring->requests_produced;

    memcpy(message, &header, sizeof(header));
    memcpy(message + sizeof(header), key, strlen(key) + 1);
    memcpy(message + sizeof(header) + strlen(key) + 1, value, strlen(value));
    for (uint32_t i = 0; i < sizeof(header) + length; i++)
        ring->requests[at++ % sizeof(ring->requests)] = message[i];
    __atomic_store_n(&ring->requests_produced, at, __ATOMIC_RELEASE);
    event_channel_op(EVTCHNOP_SEND, &port);
    while (__atomic_load_n(&ring->answers_produced, __ATOMIC_ACQUIRE) == ring->answers_consumed)
        sleep_ns(1000000);
    ring->answers_consumed = ring->answers_produced;
}

struct control *grant_rings(void)
{
    struct control *control = (struct control *)shared;
    char note[] = "1 8"; /* SHARED_VERSION FIRST_REF */

    platform()->map_grant_table(grants);
    grant(0);
    for (unsigned page = 0; page < SHARED_PAGES; page++)
        control->refs[page] = grant(1 + page);
    grant(1 + SHARED_PAGES);
    control->version = SHARED_VERSION;
    __atomic_store_n(&control->magic, SHARED_MAGIC, __ATOMIC_RELEASE);
    xenstore_write(XENSTORE_KEY, note);
    return control;
}

struct meeting_place *meeting_place(void)
{
    return (struct meeting_place *)(shared + (1 + SHARED_PAGES) * PAGE_BYTES);
}

uint32_t meeting_grant(void)
{
    return FIRST_REF + 1 + SHARED_PAGES;
}
