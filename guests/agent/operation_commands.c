/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "operation_commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "hands.h"
#include "probe.h"
#include "ticks.h"

#define WAIT_MS 5000u
#define REQUIRED UINT64_MAX
#define IN_THE_PAST 1 /* ns of Xen's time; 0 would mean: for ever */

static int do_raw_alloc_unbound(struct actor *a, struct request *q)
{
    return raw_alloc_unbound(a, (uint16_t)q->b, (uint16_t)q->a);
}

static int do_raw_bind_interdomain(struct actor *a, struct request *q)
{
    return raw_bind_interdomain(a, (uint16_t)q->a, q->b);
}

static int do_raw_bind_virq(struct actor *a, struct request *q)
{
    return raw_bind_virq(a, q->a, q->b);
}

static int do_raw_bind_ipi(struct actor *a, struct request *q)
{
    return raw_bind_ipi(a, q->a);
}

static int do_raw_close(struct actor *a, struct request *q)
{
    return raw_close(a, q->a);
}

static int do_raw_send(struct actor *a, struct request *q)
{
    return raw_send(a, q->a);
}

static int do_raw_status(struct actor *a, struct request *q)
{
    return raw_status_of(a, (uint16_t)q->b, q->a, &q->status);
}

static int do_raw_bind_vcpu(struct actor *a, struct request *q)
{
    return raw_bind_vcpu(a, q->a, q->b);
}

static int do_raw_unmask(struct actor *a, struct request *q)
{
    return raw_unmask(a, q->a);
}

static int do_raw_set_priority(struct actor *a, struct request *q)
{
    return raw_set_priority(a, q->a, q->b);
}

/* As often as asked for, with nothing said in between: an answer's interrupts end a poll. */
static int do_raw_poll(struct actor *a, struct request *q)
{
    uint32_t took[MAX_EVENTS];
    unsigned times = 0;
    int result = 0;

    while (times < q->b && times < MAX_EVENTS && result == 0) {
        uint64_t begun = ticks();
        result = raw_poll_many(a, q->ports, q->count, q->a);
        uint64_t ended = ticks();
        took[times++] = ended - begun < UINT32_MAX ? (uint32_t)(ended - begun) : UINT32_MAX;
    }
    memcpy(q->ports, took, times * sizeof(*took));
    q->count = times;
    return result;
}

static int do_device_alloc_unbound(struct actor *a, struct request *q)
{
    return device_bind_unbound(a, q->handle, (uint16_t)q->a);
}

static int do_device_bind_interdomain(struct actor *a, struct request *q)
{
    return device_bind_interdomain(a, q->handle, (uint16_t)q->a, q->b);
}

static int do_device_bind_virq(struct actor *a, struct request *q)
{
    return device_bind_virq(a, q->handle, q->a);
}

static int do_device_close(struct actor *a, struct request *q)
{
    return device_unbind(a, q->handle, q->a);
}

static int do_device_send(struct actor *a, struct request *q)
{
    return device_notify(a, q->handle, q->a);
}

static int do_device_enable(struct actor *a, struct request *q)
{
    return device_enable(a, q->handle, q->ports, q->count);
}

static int do_device_read(struct actor *a, struct request *q)
{
    int result = device_read(a, q->handle, q->ports, MAX_EVENTS, (int)q->a);

    q->count = result > 0 ? (unsigned)result : 0;
    return result;
}

/* What each operation is called, and its two arguments. */
static const struct operation {
    const char *name;
    const char *via;
    operation run;
    const char *a;
    const char *b;
    uint64_t a_otherwise;
    uint64_t b_otherwise;
} operations[] = {
    {"alloc_unbound", "raw", do_raw_alloc_unbound, "remote", "owner", DOMID_SELF, DOMID_SELF},
    {"bind_interdomain", "raw", do_raw_bind_interdomain, "remote", "port", DOMID_SELF, REQUIRED},
    {"bind_virq", "raw", do_raw_bind_virq, "virq", "vcpu", REQUIRED, 0},
    {"bind_ipi", "raw", do_raw_bind_ipi, "vcpu", NULL, REQUIRED, 0},
    {"close", "raw", do_raw_close, "port", NULL, REQUIRED, 0},
    {"send", "raw", do_raw_send, "port", NULL, REQUIRED, 0},
    {"status", "raw", do_raw_status, "port", "owner", REQUIRED, DOMID_SELF},
    {"bind_vcpu", "raw", do_raw_bind_vcpu, "port", "vcpu", REQUIRED, REQUIRED},
    {"unmask", "raw", do_raw_unmask, "port", NULL, REQUIRED, 0},
    {"set_priority", "raw", do_raw_set_priority, "port", "priority", REQUIRED, REQUIRED},
    {"poll", "raw", do_raw_poll, "timeout", "times", IN_THE_PAST, 1},
    {"bind_pirq", "raw", probe_bind_pirq, "pirq", "flags", REQUIRED, 0},
    {"irq_unmask_notify", "raw", probe_irq_unmask_notify, NULL, NULL, 0, 0},
    {"reset", "raw", probe_reset, "owner", NULL, REQUIRED, 0},
    {"reset_cont", "raw", probe_reset_cont, "owner", NULL, REQUIRED, 0},
    {"init_control", "raw", probe_init_control, "vcpu", "offset", REQUIRED, 0},
    {"expand_array", "raw", probe_expand_array, NULL, NULL, 0, 0},
    {"command", "raw", probe_command, "number", NULL, REQUIRED, 0},
    {"monitor", "raw", probe_monitor, "owner", "enable", REQUIRED, REQUIRED},
    {"fill", "raw", probe_fill, "max", NULL, REQUIRED, 0},
    {"survey", "raw", probe_survey, "first", "owner", 0, DOMID_SELF},
    {"alloc_unbound", "device", do_device_alloc_unbound, "remote", NULL, REQUIRED, 0},
    {"bind_interdomain", "device", do_device_bind_interdomain, "remote", "port", REQUIRED, REQUIRED},
    {"bind_virq", "device", do_device_bind_virq, "virq", NULL, REQUIRED, 0},
    {"close", "device", do_device_close, "port", NULL, REQUIRED, 0},
    {"send", "device", do_device_send, "port", NULL, REQUIRED, 0},
    {"enable", "device", do_device_enable, NULL, NULL, 0, 0},
    {"read", "device", do_device_read, "timeout_ms", NULL, 0, 0},
};

static uint64_t argument(struct command *c, const char *key, uint64_t otherwise)
{
    if (!key)
        return 0;
    return otherwise == REQUIRED ? required(c, key, UINT32_MAX)
                                 : optional(c, key, UINT32_MAX, otherwise);
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

static void report(struct session *s, const char *verb, const struct request *q)
{
    char extra[MAX_EVENTS * 11 + 64] = "";
    size_t n = 0;

    if (q->run == do_raw_status && q->result == 0)
        snprintf(extra, sizeof(extra), " state=%u vcpu=%u remote=%u detail=%u", q->status.state,
                 q->status.vcpu, q->status.remote, q->status.detail);
    if (q->run == probe_survey)
        n = (size_t)snprintf(extra, sizeof(extra), " more=%u", q->a ? 1 : 0);
    if (q->run == do_device_read || q->run == probe_fill || q->run == probe_survey ||
        q->run == do_raw_poll) {
        n += (size_t)snprintf(extra + n, sizeof(extra) - n,
                              q->run == do_raw_poll ? " took=" : " ports=");
        for (unsigned i = 0; i < q->count; i++)
            n += (size_t)snprintf(extra + n, sizeof(extra) - n, i ? ",%u" : "%u", q->ports[i]);
    }
    if (q->result < 0)
        answer(s, -q->result, "what=%s call=%llu ret=%llu cpu=%u", verb,
               (unsigned long long)q->record.call, (unsigned long long)q->record.ret,
               q->record.cpu);
    else
        answer(s, 0, "result=%d call=%llu ret=%llu cpu=%u%s", q->result,
               (unsigned long long)q->record.call, (unsigned long long)q->record.ret,
               q->record.cpu, extra);
}

static void wait_and_report(struct session *s, const char *verb, unsigned on, unsigned wait_ms)
{
    struct request q;
    int error = hand_join(on, wait_ms, &q);

    if (error)
        answer(s, -error, "what=%s on=%u", error == -ETIME ? "in-flight" : verb, on);
    else
        report(s, verb, &q);
}

static void begin(struct session *s, struct command *c, const struct operation *o)
{
    struct request q = {.run = o->run};
    unsigned on = (unsigned)optional(c, "on", hands_count() - 1, 0);
    unsigned wait_ms = (unsigned)optional(c, "wait_ms", 600000, WAIT_MS);
    int error;

    q.meet = (unsigned)optional(c, "meet", hands_count(), 0);
    q.a = (uint32_t)argument(c, o->a, o->a_otherwise);
    q.b = (uint32_t)argument(c, o->b, o->b_otherwise);
    if (strcmp(o->via, "device") == 0)
        q.handle = (unsigned)optional(c, "handle", HANDLES - 1, 0);
    if (o->run == do_device_enable || o->run == do_raw_poll)
        q.count = (unsigned)numbers(c, "ports", q.ports, MAX_EVENTS);
    if (strcmp(o->via, "raw") == 0)
        q.fault = fault(c);
    if (refuse(s, c))
        return;
    error = hand_begin(on, &q);
    if (error)
        answer(s, -error, "what=in-flight on=%u", on);
    else if (wait_ms == 0)
        answer(s, 0, "begun=1");
    else
        wait_and_report(s, o->name, on, wait_ms);
}

static void join(struct session *s, struct command *c)
{
    unsigned on = (unsigned)required(c, "on", hands_count() - 1);
    unsigned wait_ms = (unsigned)optional(c, "wait_ms", 600000, WAIT_MS);

    if (!refuse(s, c))
        wait_and_report(s, "join", on, wait_ms);
}

static const struct verb verbs[] = {{"join", join}, {NULL, NULL}};

/* The operation of that name, made in that way; a NULL way is any. */
static const struct operation *find(const char *name, const char *via)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
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
