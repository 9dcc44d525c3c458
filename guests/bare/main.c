/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The smallest Xen guest that can do event channels, and does with them what Linux would not
 * survive.  It has two vCPUs, no interrupts, no page fault handler and no libc; dom0's relay
 * finds its pages, and speaks the agent's protocol (docs/agent-protocol.md) through them.
 */
#include "ops.h"

#if defined(__x86_64__)
#define ARCH "x86_64"
#else
#define ARCH "arm64"
#endif

#define IDLE_NS 500000ull

/* vCPU 1 makes the operation that is here, and takes it away. */
static struct job *for_other;

void other_main(void)
{
    for (;;) {
        struct job *job = __atomic_load_n(&for_other, __ATOMIC_ACQUIRE);
        if (job) {
            operation(job);
            __atomic_store_n(&for_other, NULL, __ATOMIC_RELEASE);
        } else {
            doze(IDLE_NS);
        }
    }
}

static void say_version(int version)
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
    say_word("xen", text);
}

static void hello(void)
{
    answer_ok();
    say("protocol", 1);
    say_word("arch", ARCH);
    say("domid", own_domid());
    say("vcpus", VCPUS);
    say("tick_hz", ticks_hz());
    say("page", PAGE_BYTES);
    say_version(xen_version());
}

static void obey(struct command *c)
{
    static struct job job;

    job = (struct job){.command = c, .cpu = number(c, "on", 0) ? 1 : 0};
    if (strcmp(c->verb, "hello") == 0) {
        hello();
    } else if (strcmp(c->verb, "ticks") == 0) {
        answer_ok();
        say("ticks", ticks());
        say("tick_hz", ticks_hz());
    } else if (strcmp(c->verb, "release") == 0) {
        close_all();
        answer_ok();
        say_word("open", "");
    } else if (job.cpu == 0) {
        if (!operation(&job))
            answer_error(ENOSYS, "verb");
    } else {
        answer_error(ENOSYS, "verb");
        __atomic_store_n(&for_other, &job, __ATOMIC_RELEASE);
        while (__atomic_load_n(&for_other, __ATOMIC_ACQUIRE))
            doze(0);
    }
}

void main(void)
{
    struct control *control;

    xen_start();
    platform->start_other();
    control = offer();
    for (;;) {
        struct command *c = listen(control);
        if (newcomer())
            close_all();
        obey(c);
        answer_end(control);
    }
}
