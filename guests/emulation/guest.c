/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bare guest as a process of this computer, on QEMU's emulation instead of Xen: what in
 * guests/bare depends on the CPU, on the memory and on a dom0.  Commands come on stdin, and answers
 * go to stdout.  Its two vCPUs take turns: a hypercall returns before another one is made.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../bare/grant_rings.h"
#include "../bare/ops.h"
#include "../bare/platform.h"
#include "../bare/second_vcpu.h"
#include "../bare/xen.h"
#include "emulation.h"

#define NS 1000000000ull
#define RELEASE (4 << 16 | 17) /* what QEMU's documentation has a user say: xen-version=0x40011 */

const size_t bitmaps_offset = 32 * 64; /* behind the vcpu_info of 32 vCPUs */

static char shared_info[PAGE_BYTES] PAGE_ALIGNED;
static char shared[(1 + SHARED_PAGES) * PAGE_BYTES] PAGE_ALIGNED; /* control page, then rings */
static struct vcpu_info infos[VCPUS];
struct vcpu_info *const vcpu_info[VCPUS] = {&infos[0], &infos[1]};
static unsigned running; /* the vCPU that makes hypercalls now */

int64_t hypercall(enum hypercall number, uint64_t a, const volatile void *b, const volatile void *c)
{
    (void)c;
    return emulation_hypercall(running, number, a, (uintptr_t)b, (uintptr_t)NOT_MAPPED);
}

static int dom0_release(uint32_t unused)
{
    (void)unused;
    for (uint32_t port = 0; port < BITMAP_PORTS; port++)
        emulation_dom0_close(port);
    return 0;
}

/* What QEMU does as dom0: no operation of the guest.  Returns whether there is such a verb. */
static int dom0_operation(struct job *job)
{
    static const struct {
        const char *verb;
        int (*run)(uint32_t port);
    } operations[] = {
        {"dom0_bind_interdomain", emulation_dom0_bind},
        {"dom0_send", emulation_dom0_send},
        {"dom0_close", emulation_dom0_close},
        {"dom0_take", emulation_dom0_take},
        {"dom0_release", dom0_release},
    };

    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        if (strcmp(operations[i].verb, job->command->verb) == 0) {
            int result = operations[i].run((uint32_t)optional(job->command, "port", 0));
            if (result < 0) {
                answer_error((unsigned)-result, job->command->verb);
            } else {
                answer_ok();
                answer_number("result", (unsigned)result);
            }
            return 1;
        }
    return 0;
}

void run_job(struct job *job)
{
    if (dom0_operation(job))
        return;
    running = job->vcpu;
    make_operation(job);
    running = 0;
}

/* Here the second vCPU has done its work before the first one goes on. */
void second_vcpu_begin(void (*work)(void *argument), void *argument)
{
    running = 1;
    work(argument);
    running = 0;
}

void second_vcpu_wait(void)
{
}

volatile uint64_t *bitmap(enum bitmap which)
{
    return (volatile uint64_t *)(shared_info + bitmaps_offset) + which * BITMAP_WORDS;
}

/*
 * This process's CPU time: so a poll that loses its CPU for a while does not look like one that has
 * slept.  No hypercall can sleep here, because nothing would ever wake it.
 */
uint64_t ticks(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

uint64_t xen_time(void)
{
    return ticks();
}

uint64_t ticks_hz(void)
{
    return NS;
}

int xen_version(void)
{
    return RELEASE;
}

void xen_start(void)
{
    emulation_start(shared_info, (void *const *)vcpu_info);
}

/* --- the memory --- */

static int start_second_vcpu(void)
{
    return 0; /* see run_job() */
}

static uint64_t frame(const volatile void *memory)
{
    return (uintptr_t)memory / PAGE_BYTES;
}

static void *read_only(const volatile void *memory)
{
    return (void *)((uintptr_t)memory | READ_ONLY);
}

const struct platform *platform(void)
{
    static const struct platform process = {
        .start_second_vcpu = start_second_vcpu,
        .frame = frame,
        .read_only = read_only,
    };

    return &process;
}

/* --- the rings: no relay is at their other end, but stdin and stdout --- */

struct control *grant_rings(void)
{
    return (struct control *)shared;
}

struct meeting_place *meeting_place(void)
{
    static struct meeting_place place;

    return &place;
}

uint32_t meeting_grant(void)
{
    return 0;
}

/* Returns whether there was anything to send. */
static int send_answers(struct control *control)
{
    char *bytes = shared + (1 + PAGES_TO_DOMU) * PAGE_BYTES;
    size_t at, filled;
    int sent = 0;

    while ((filled = ring_filled(&control->to_dom0, PAGES_TO_DOM0 * PAGE_BYTES, &at)) > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes + at, filled);
        if (written <= 0)
            exit(EXIT_FAILURE);
        ring_consume(&control->to_dom0, (size_t)written);
        sent = 1;
    }
    return sent;
}

/* The guest sleeps when it has no command, or no room for an answer. */
void sleep_ns(uint64_t ns)
{
    struct control *control = (struct control *)shared;
    size_t at, room;
    ssize_t got;

    (void)ns;
    if (send_answers(control))
        return;
    room = ring_room(&control->to_domu, PAGES_TO_DOMU * PAGE_BYTES, &at);
    got = read(STDIN_FILENO, shared + PAGE_BYTES + at, room);
    if (got <= 0)
        exit(EXIT_SUCCESS);
    ring_produce(&control->to_domu, (size_t)got);
}
