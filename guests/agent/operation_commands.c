/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "operation_commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "interrupts.h"
#include "probe.h"
#include "ticks.h"
#include "vcpu_worker.h"

#define WAIT_MS 5000u
#define LAG_NS_MOST 1000000u
#define REQUIRED UINT64_MAX
#define UNCOUNTED UINT64_MAX
#define IN_THE_PAST 1 /* ns of Xen's time; 0 is no time-out at all */

static int do_raw_alloc_unbound(struct actor *a, struct job *job)
{
    return raw_alloc_unbound(a, (uint16_t)job->b, (uint16_t)job->a);
}

static int do_raw_bind_interdomain(struct actor *a, struct job *job)
{
    return raw_bind_interdomain(a, (uint16_t)job->a, job->b);
}

static int do_raw_bind_virq(struct actor *a, struct job *job)
{
    return raw_bind_virq(a, job->a, job->b);
}

static int do_raw_bind_ipi(struct actor *a, struct job *job)
{
    return raw_bind_ipi(a, job->a);
}

static int do_raw_close(struct actor *a, struct job *job)
{
    return raw_close(a, job->a);
}

static int do_raw_send(struct actor *a, struct job *job)
{
    return raw_send(a, job->a);
}

static int do_raw_status(struct actor *a, struct job *job)
{
    return raw_status_of(a, (uint16_t)job->b, job->a, &job->status);
}

static int do_raw_bind_vcpu(struct actor *a, struct job *job)
{
    return raw_bind_vcpu(a, job->a, job->b);
}

static int do_raw_unmask(struct actor *a, struct job *job)
{
    return raw_unmask(a, job->a);
}

static int do_raw_set_priority(struct actor *a, struct job *job)
{
    return raw_set_priority(a, job->a, job->b);
}

/* A poll of one port is ended by events of its vCPU, any other poll by events of the domain. */
static unsigned who_wakes(const struct actor *a, const struct job *job)
{
    return job->count == 1 ? a->vcpu : ALL_VCPUS;
}

/* To count them takes longer than many an operation, so it is done before the barrier. */
static void count_interrupts(struct actor *a, struct job *job)
{
    if (interrupts_of(who_wakes(a, job), &job->interrupts) < 0)
        job->interrupts = UNCOUNTED;
}

/*
 * Poll as often as asked for, and answer only then: the interrupts that come of an answer would
 * end the next poll.
 *
 * A vCPU that sleeps in a poll is woken by an interrupt, or by its time-out; if it polls several
 * ports, or none, also by one of another vCPU.  So count the interrupts before and after: if there
 * was none, a poll without time-out has not slept, however long it took.  The other way round
 * nothing is sure, because an interrupt may have come as well.
 */
static int do_raw_poll(struct actor *a, struct job *job)
{
    uint32_t took[MAX_NUMBERS / 2], woken[MAX_NUMBERS / 2];
    uint64_t before = job->interrupts, after = 0;
    unsigned times = 0;
    int result = 0;
    bool counted = before != UNCOUNTED;

    while (times < job->b && times < MAX_NUMBERS / 2 && result == 0) {
        uint64_t begun = ticks();
        result = raw_poll_many(a, job->numbers, job->count, job->a);
        uint64_t ended = ticks();
        counted = interrupts_of(who_wakes(a, job), &after) == 0 && counted;
        woken[times] = !counted || after != before;
        before = after;
        took[times++] = ended - begun < UINT32_MAX ? (uint32_t)(ended - begun) : UINT32_MAX;
    }
    memcpy(job->numbers, took, times * sizeof(*took));
    memcpy(job->numbers + times, woken, times * sizeof(*woken));
    job->count = times;
    return result;
}

static int do_device_alloc_unbound(struct actor *a, struct job *job)
{
    return device_bind_unbound(a, job->handle, (uint16_t)job->a);
}

static int do_device_bind_interdomain(struct actor *a, struct job *job)
{
    return device_bind_interdomain(a, job->handle, (uint16_t)job->a, job->b);
}

static int do_device_bind_virq(struct actor *a, struct job *job)
{
    return device_bind_virq(a, job->handle, job->a);
}

static int do_device_close(struct actor *a, struct job *job)
{
    return device_unbind(a, job->handle, job->a);
}

static int do_device_send(struct actor *a, struct job *job)
{
    return device_notify(a, job->handle, job->a);
}

static int do_device_enable(struct actor *a, struct job *job)
{
    return device_enable(a, job->handle, job->numbers, job->count);
}

static int do_device_read(struct actor *a, struct job *job)
{
    int result = device_read(a, job->handle, job->numbers, MAX_NUMBERS, (int)job->a);

    job->count = result > 0 ? (unsigned)result : 0;
    return result;
}

/* How an operation is asked for, and what is answered. */
static const struct operation {
    const char *name;
    const char *via;
    job_function run;
    const char *a, *b; /* the keys of its two arguments; NULL: it has none */
    uint64_t a_default, b_default;
    const char *list; /* the key under which its numbers are answered; NULL: it has none */
} operations[] = {
    {"alloc_unbound", "raw", do_raw_alloc_unbound, "remote", "owner", DOMID_SELF, DOMID_SELF, NULL},
    {"bind_interdomain", "raw", do_raw_bind_interdomain, "remote", "port", DOMID_SELF, REQUIRED,
     NULL},
    {"bind_virq", "raw", do_raw_bind_virq, "virq", "vcpu", REQUIRED, 0, NULL},
    {"bind_ipi", "raw", do_raw_bind_ipi, "vcpu", NULL, REQUIRED, 0, NULL},
    {"close", "raw", do_raw_close, "port", NULL, REQUIRED, 0, NULL},
    {"send", "raw", do_raw_send, "port", NULL, REQUIRED, 0, NULL},
    {"status", "raw", do_raw_status, "port", "owner", REQUIRED, DOMID_SELF, NULL},
    {"bind_vcpu", "raw", do_raw_bind_vcpu, "port", "vcpu", REQUIRED, REQUIRED, NULL},
    {"unmask", "raw", do_raw_unmask, "port", NULL, REQUIRED, 0, NULL},
    {"set_priority", "raw", do_raw_set_priority, "port", "priority", REQUIRED, REQUIRED, NULL},
    {"poll", "raw", do_raw_poll, "timeout", "times", IN_THE_PAST, 1, "took"},
    {"bind_pirq", "raw", probe_bind_pirq, "pirq", "flags", REQUIRED, 0, NULL},
    {"irq_unmask_notify", "raw", probe_irq_unmask_notify, NULL, NULL, 0, 0, NULL},
    {"dump_irqs", "raw", probe_dump_irqs, NULL, NULL, 0, 0, NULL},
    {"reset", "raw", probe_reset, "owner", NULL, REQUIRED, 0, NULL},
    {"reset_cont", "raw", probe_reset_cont, "owner", NULL, REQUIRED, 0, NULL},
    {"init_control", "raw", probe_init_control, "vcpu", "offset", REQUIRED, 0, NULL},
    {"expand_array", "raw", probe_expand_array, NULL, NULL, 0, 0, NULL},
    {"unknown_command", "raw", probe_unknown_command, "number", NULL, REQUIRED, 0, NULL},
    {"monitor", "raw", probe_monitor, "owner", "enable", REQUIRED, REQUIRED, NULL},
    {"fill", "raw", probe_fill, "max", NULL, REQUIRED, 0, "ports"},
    {"list_ports", "raw", probe_list_ports, "first", "owner", 0, DOMID_SELF, "ports"},
    {"alloc_unbound", "device", do_device_alloc_unbound, "remote", NULL, REQUIRED, 0, NULL},
    {"bind_interdomain", "device", do_device_bind_interdomain, "remote", "port", REQUIRED, REQUIRED,
     NULL},
    {"bind_virq", "device", do_device_bind_virq, "virq", NULL, REQUIRED, 0, NULL},
    {"close", "device", do_device_close, "port", NULL, REQUIRED, 0, NULL},
    {"send", "device", do_device_send, "port", NULL, REQUIRED, 0, NULL},
    {"enable", "device", do_device_enable, NULL, NULL, 0, 0, NULL},
    {"read", "device", do_device_read, "timeout_ms", NULL, 0, 0, "ports"},
};
#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static uint64_t argument(struct command *c, const char *key, uint64_t default_value)
{
    if (!key)
        return 0;
    return default_value == REQUIRED ? required(c, key, UINT32_MAX)
                                     : optional(c, key, UINT32_MAX, default_value);
}

static enum fault fault(struct command *c)
{
    const char *word = text(c, "fault", "none");

    if (strcmp(word, "in") == 0)
        return FAULT_IN;
    if (strcmp(word, "out") == 0)
        return FAULT_OUT;
    if (strcmp(word, "none") != 0)
        c->bad = "fault";
    return FAULT_NONE;
}

static size_t print_list(char *line, size_t room, const char *key, const uint32_t *values,
                         unsigned count)
{
    size_t n = (size_t)snprintf(line, room, " %s=", key);

    for (unsigned i = 0; i < count; i++)
        n += (size_t)snprintf(line + n, room - n, i ? ",%u" : "%u", values[i]);
    return n;
}

/* What is answered beside the result. */
static void print_extra(char *line, size_t room, const struct job *job)
{
    const char *list = NULL;
    size_t n = 0;

    if (job->run == do_raw_status && job->result == 0)
        snprintf(line, room, " state=%u vcpu=%u remote=%u detail=%u", job->status.state,
                 job->status.vcpu, job->status.remote, job->status.detail);
    if (job->run == probe_list_ports)
        n = (size_t)snprintf(line, room, " more=%u", job->a ? 1 : 0);
    for (size_t i = 0; i < OPERATIONS; i++)
        if (operations[i].run == job->run)
            list = operations[i].list;
    if (!list)
        return;
    n += print_list(line + n, room - n, list, job->numbers, job->count);
    if (job->run == do_raw_poll)
        print_list(line + n, room - n, "woken", job->numbers + job->count, job->count);
}

static void report(struct session *s, const char *verb, const struct job *job)
{
    unsigned long long call = job->record.call, ret = job->record.ret;
    char extra[MAX_NUMBERS * 11 + 64] = "";

    if (job->result < 0) {
        answer(s, -job->result, "what=%s call=%llu ret=%llu cpu=%u", verb, call, ret,
               job->record.cpu);
        return;
    }
    print_extra(extra, sizeof(extra), job);
    answer(s, 0, "result=%d call=%llu ret=%llu cpu=%u%s", job->result, call, ret, job->record.cpu,
           extra);
}

static void wait_and_report(struct session *s, const char *verb, unsigned on, unsigned wait_ms)
{
    struct job job;
    int error = worker_wait(on, wait_ms, &job);

    if (error)
        answer(s, -error, "what=%s on=%u", error == -ETIME ? "in-flight" : verb, on);
    else
        report(s, verb, &job);
}

static void begin(struct session *s, struct command *c, const struct operation *o)
{
    struct job job = {.run = o->run};
    unsigned on = (unsigned)optional(c, "on", workers_count() - 1, 0);
    unsigned wait_ms = (unsigned)optional(c, "wait_ms", 600000, WAIT_MS);
    bool own_frame = false;
    int error;

    job.barrier = (unsigned)optional(c, "barrier", workers_count(), 0);
    job.lag = optional(c, "lag_ns", LAG_NS_MOST, 0) * ticks_hz() / 1000000000u;
    job.a = (uint32_t)argument(c, o->a, o->a_default);
    job.b = (uint32_t)argument(c, o->b, o->b_default);
    if (strcmp(o->via, "device") == 0)
        job.handle = (unsigned)optional(c, "handle", HANDLES - 1, 0);
    else
        job.fault = fault(c);
    if (o->run == do_raw_poll)
        job.prepare = count_interrupts;
    if (o->run == do_device_enable || o->run == do_raw_poll)
        job.count = (unsigned)numbers(c, "ports", job.numbers, MAX_NUMBERS);
    if (o->run == probe_init_control || o->run == probe_expand_array)
        own_frame = optional(c, "frame", 1, 0);
    if (refuse(s, c))
        return;
    if (own_frame && (job.frame = probe_own_frame()) == 0) {
        answer(s, ENODATA, "what=argument-frame");
        return;
    }
    error = worker_begin(on, &job);
    if (error)
        answer(s, -error, "what=in-flight on=%u", on);
    else if (wait_ms == 0)
        answer(s, 0, "begun=1");
    else
        wait_and_report(s, o->name, on, wait_ms);
}

static void join(struct session *s, struct command *c)
{
    unsigned on = (unsigned)required(c, "on", workers_count() - 1);
    unsigned wait_ms = (unsigned)optional(c, "wait_ms", 600000, WAIT_MS);

    if (!refuse(s, c))
        wait_and_report(s, "join", on, wait_ms);
}

static const struct verb verbs[] = {{"join", join}, {NULL, NULL}};

/* The operation of that name through that interface; any interface if `via` is NULL. */
static const struct operation *find(const char *name, const char *via)
{
    for (size_t i = 0; i < OPERATIONS; i++)
        if (strcmp(operations[i].name, name) == 0 && (!via || strcmp(operations[i].via, via) == 0))
            return &operations[i];
    return NULL;
}

bool operation_commands(struct session *s, struct command *c)
{
    const struct operation *o;

    if (!find(c->verb, NULL))
        return run_verb(verbs, s, c);
    o = find(c->verb, text(c, "via", "raw"));
    if (o)
        begin(s, c, o);
    else
        answer(s, EINVAL, "what=via");
    return true;
}
