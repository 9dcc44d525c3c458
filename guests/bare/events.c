/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "events.h"

#include "../agent/record.h"
#include "memory.h"
#include "platform.h"
#include "xen.h"

#define NO_FRAME 0xfffffffffull

/* FIFO, one per vCPU: Xen's struct evtchn_fifo_control_block. */
struct control_block {
    uint32_t ready; /* a bit for each priority that has events */
    uint32_t reserved;
    uint32_t head[16];
};

/* FIFO, one word per port: the bits of a word of Xen's event array. */
#define FIFO_PENDING (1u << 31)
#define FIFO_MASKED (1u << 30)
#define FIFO_LINKED (1u << 29)
#define FIFO_LINK 0x1ffffu

static char block_pages[VCPUS][PAGE_BYTES] PAGE_ALIGNED;
static struct control_block *block[VCPUS]; /* NULL until Xen knows it */
static uint32_t array[MAX_PORTS] PAGE_ALIGNED;
static unsigned array_pages;
static bool fifo;

int event_channel_op_fault(uint64_t op, void *argument, enum fault fault)
{
    void *given = fault == FAULT_IN    ? NOT_MAPPED
                  : fault == FAULT_OUT ? platform()->read_only(argument)
                                       : argument;

    return (int)hypercall(HYPERCALL_EVENT_CHANNEL_OP, op, given, NULL);
}

int event_channel_op(uint64_t op, void *argument)
{
    return event_channel_op_fault(op, argument, FAULT_NONE);
}

int events_init_control(unsigned vcpu, uint32_t offset, bool good_frame, enum fault fault)
{
    char *page = block_pages[vcpu < VCPUS ? vcpu : 0];
    uint64_t frame = good_frame ? platform()->frame(page) : NO_FRAME;
    union hypercall_arg arg = {.init_control = {frame, offset, vcpu, 0}};
    int result;

    if (vcpu < VCPUS && !block[vcpu])
        memset(page, 0, PAGE_BYTES); /* from before a reset */
    result = event_channel_op_fault(EVTCHNOP_INIT_CONTROL, &arg, fault);
    if (result == 0 || (fault == FAULT_OUT && result == -EFAULT)) {
        block[vcpu] = (struct control_block *)(page + offset);
        fifo = true;
    }
    return result;
}

int events_expand_array(bool good_frame, enum fault fault)
{
    static uint32_t spare[PORTS_PER_PAGE] PAGE_ALIGNED; /* for one page too many */
    uint32_t *page = array_pages < ARRAY_PAGES ? array + array_pages * PORTS_PER_PAGE : spare;
    union hypercall_arg arg = {.expand_array = {good_frame ? platform()->frame(page) : NO_FRAME}};
    int result;

    if (good_frame && fault == FAULT_NONE)
        memset(page, 0, PAGE_BYTES);
    result = event_channel_op_fault(EVTCHNOP_EXPAND_ARRAY, &arg, fault);
    if (result == 0)
        array_pages++;
    return result;
}

void events_after_reset(void)
{
    memset(block, 0, sizeof(block));
    array_pages = 0;
    fifo = false;
}

static bool has_word(uint32_t port)
{
    return port < array_pages * PORTS_PER_PAGE;
}

static bool bit(enum bitmap which, uint32_t port)
{
    return bitmap(which)[port / 64] >> port % 64 & 1;
}

struct port_bits events_port_bits(uint32_t port)
{
    struct port_bits bits = {false, false, false};

    if (fifo) {
        uint32_t word = has_word(port) ? __atomic_load_n(&array[port], __ATOMIC_ACQUIRE) : 0;
        bits.pending = word & FIFO_PENDING;
        bits.masked = word & FIFO_MASKED;
        bits.linked = word & FIFO_LINKED;
    } else if (port < BITMAP_PORTS) {
        bits.pending = bit(PENDING_BITMAP, port);
        bits.masked = bit(MASK_BITMAP, port);
    }
    return bits;
}

void events_mask(uint32_t port)
{
    if (fifo)
        __atomic_fetch_or(&array[port], FIFO_MASKED, __ATOMIC_SEQ_CST);
    else if (port < BITMAP_PORTS)
        __atomic_fetch_or(&bitmap(MASK_BITMAP)[port / 64], 1ull << port % 64, __ATOMIC_SEQ_CST);
}

bool events_set_bit(uint32_t port, enum port_bit which, bool value)
{
    uint32_t in_word = which == BIT_PENDING ? FIFO_PENDING : FIFO_MASKED;
    enum bitmap in_2l = which == BIT_PENDING ? PENDING_BITMAP : MASK_BITMAP;

    if (fifo ? !has_word(port) : port >= BITMAP_PORTS)
        return false;
    if (fifo && value)
        __atomic_fetch_or(&array[port], in_word, __ATOMIC_SEQ_CST);
    else if (fifo)
        __atomic_fetch_and(&array[port], ~in_word, __ATOMIC_SEQ_CST);
    else if (value)
        __atomic_fetch_or(&bitmap(in_2l)[port / 64], 1ull << port % 64, __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_and(&bitmap(in_2l)[port / 64], ~(1ull << port % 64), __ATOMIC_SEQ_CST);
    return true;
}

void events_clear_2l(void)
{
    for (unsigned word = 0; word < BITMAP_WORDS; word++)
        bitmap(PENDING_BITMAP)[word] = bitmap(MASK_BITMAP)[word] = 0;
    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++)
        vcpu_info[vcpu]->pending_sel = vcpu_info[vcpu]->upcall_pending = 0;
}

bool events_upcall(unsigned vcpu)
{
    return __atomic_load_n(&vcpu_info[vcpu]->upcall_pending, __ATOMIC_ACQUIRE);
}

uint64_t events_selectors(unsigned vcpu)
{
    return __atomic_load_n(&vcpu_info[vcpu]->pending_sel, __ATOMIC_ACQUIRE);
}

uint32_t events_ready(unsigned vcpu)
{
    return block[vcpu] ? __atomic_load_n(&block[vcpu]->ready, __ATOMIC_ACQUIRE) : 0;
}

struct list {
    uint32_t *ports;
    unsigned room, count;
};

static void add(struct list *list, uint32_t port)
{
    if (list->count < list->room)
        list->ports[list->count] = port;
    list->count++;
}

static void take_2l(unsigned vcpu, struct list *list)
{
    uint64_t words = __atomic_exchange_n(&vcpu_info[vcpu]->pending_sel, 0, __ATOMIC_SEQ_CST);
    volatile uint64_t *pending = bitmap(PENDING_BITMAP), *masked = bitmap(MASK_BITMAP);

    for (unsigned word = 0; word < BITMAP_WORDS; word++) {
        uint64_t events = words >> word & 1 ? pending[word] & ~masked[word] : 0;
        for (unsigned i = 0; i < 64; i++)
            if (events >> i & 1)
                add(list, word * 64 + i);
        __atomic_fetch_and(&pending[word], ~events, __ATOMIC_SEQ_CST);
    }
}

/* A queue is a linked list: the word of each port has the number of the next one, 0 at the end. */
static void take_queue(struct control_block *b, unsigned priority, struct list *list)
{
    uint32_t port = __atomic_load_n(&b->head[priority], __ATOMIC_ACQUIRE);

    while (port) {
        uint32_t word = __atomic_fetch_and(&array[port], ~(FIFO_LINKED | FIFO_LINK | FIFO_PENDING),
                                           __ATOMIC_SEQ_CST);
        add(list, port);
        port = word & FIFO_LINK;
    }
}

unsigned events_handle_upcall(unsigned vcpu, uint32_t *ports, unsigned room)
{
    struct list list = {ports, room, 0};
    uint32_t ready;

    __atomic_store_n(&vcpu_info[vcpu]->upcall_pending, 0, __ATOMIC_SEQ_CST);
    if (!fifo) {
        take_2l(vcpu, &list);
        return list.count;
    }
    ready = block[vcpu] ? __atomic_exchange_n(&block[vcpu]->ready, 0, __ATOMIC_SEQ_CST) : 0;
    for (unsigned priority = 0; priority < 16; priority++)
        if (ready >> priority & 1)
            take_queue(block[vcpu], priority, &list);
    return list.count;
}
