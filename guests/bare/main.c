/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bare guest: the smallest Xen guest that can use event channels, and that may do with them
 * what Linux would not survive.  It has two vCPUs, no interrupts, no page fault handler and no
 * libc.  It grants dom0 the same rings as the agent in a domU does, and answers the same protocol
 * (docs/agent-protocol.md) through them.
 */
#include "grant_rings.h"
#include "memory.h"
#include "ops.h"
#include "platform.h"
#include "programme.h"
#include "protocol.h"
#include "second_vcpu.h"
#include "xen.h"

#if defined(__x86_64__)
#define ARCH "x86_64"
#else
#define ARCH "arm64"
#endif

/* There is no printf(): "4.17", from two numbers of at most two digits. */
static void answer_version(int version)
{
    char text[16] = {0};
    unsigned parts[] = {(unsigned)version >> 16, version & 0xffff}, at = 0;

    for (unsigned i = 0; i < 2; i++) {
        if (i)
            text[at++] = '.';
        if (parts[i] >= 10)
            text[at++] = (char)('0' + parts[i] / 10 % 10);
        text[at++] = (char)('0' + parts[i] % 10);
    }
    answer_word("xen", text);
}

static void hello(void)
{
    answer_ok();
    answer_number("protocol", 2);
    answer_word("arch", ARCH);
    answer_number("domid", own_domid());
    answer_number("vcpus", VCPUS);
    answer_number("tick_hz", ticks_hz());
    answer_number("page", PAGE_BYTES);
    answer_number("meeting", meeting_grant());
    answer_version(xen_version());
}

/* The bytes of the steps follow the command, vCPU 0's first. */
static void run_programme(struct control *control, struct command *c)
{
    uint64_t given[VCPUS] = {optional(c, "steps", 0), optional(c, "second", 0)};
    bool timed = optional(c, "timed", 0), with_dom0 = optional(c, "dom0", 0), fits = true;
    uint64_t number = optional(c, "number", 0);
    size_t each = timed ? sizeof(struct timed_seen) : sizeof(struct seen);
    unsigned counts[VCPUS];
    const void *seen;

    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++) {
        bool here = given[vcpu] <= MAX_STEPS;
        next_bytes(control, here ? programme_steps(vcpu) : NULL,
                   given[vcpu] * sizeof(struct step));
        counts[vcpu] = (unsigned)given[vcpu];
        fits = fits && here;
    }
    if (!fits || c->bad || (with_dom0 && counts[1])) {
        answer_error(EINVAL, "argument-steps");
        return;
    }
    seen = programme_run(number, counts, timed, with_dom0);
    if (!seen) {
        answer_error(ETIMEDOUT, "dom0");
        return;
    }
    answer_ok();
    answer_number("tick_hz", ticks_hz());
    answer_bytes(seen, (counts[0] + counts[1]) * each);
}

static void run_command(struct control *control, struct command *c)
{
    static struct job job;

    job = (struct job){.command = c, .vcpu = optional(c, "on", 0) ? 1 : 0};
    if (strcmp(c->verb, "hello") == 0) {
        hello();
    } else if (strcmp(c->verb, "ticks") == 0) {
        answer_ok();
        answer_number("ticks", ticks());
        answer_number("tick_hz", ticks_hz());
    } else if (strcmp(c->verb, "programme") == 0) {
        run_programme(control, c);
    } else if (strcmp(c->verb, "release") == 0) {
        close_all();
        answer_ok();
        answer_word("open", "");
    } else {
        answer_error(ENOSYS, "verb"); /* stands if there is no such operation */
        run_job(&job);
    }
}

void main(void)
{
    struct control *control;

    xen_start();
    platform()->start_second_vcpu();
    control = grant_rings();
    for (;;) {
        struct command *c = next_command(control);
        if (relay_is_new())
            close_all();
        run_command(control, c);
        answer_send(control);
    }
}
