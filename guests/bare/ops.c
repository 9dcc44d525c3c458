/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops.h"

#define FOREVER_NS 8000000ull /* no tick would ever end a poll */
#define CLOSED 0u
#define HIDDEN 255u
#define FIRST_UNKNOWN 15u
#define GUEST_REQUEST 24u /* of HVM_OP */
#define MOST_POLLS 16u

static uint8_t ours[MAX_PORTS / 8];

static void own(uint32_t port, bool yes)
{
    if (port < MAX_PORTS)
        ours[port / 8] = (uint8_t)((ours[port / 8] & ~(1u << port % 8)) | (unsigned)yes << port % 8);
}

/* One hypercall, timed. */
static int64_t ask(struct job *job, uint64_t op, void *argument)
{
    job->call = ticks();
    job->result = event_channel_op_fault(op, argument, job->fault);
    job->ret = ticks();
    return job->result;
}

/* The same for those that answer with a new port. */
static void ask_port(struct job *job, uint64_t op, void *argument, const uint32_t *port)
{
    if (ask(job, op, argument) == 0) {
        job->result = *port;
        own(*port, true);
    }
}

static void alloc_unbound(struct job *job)
{
    struct {
        uint16_t owner, remote;
        uint32_t port;
    } a = {(uint16_t)number(job->command, "owner", DOMID_SELF),
           (uint16_t)number(job->command, "remote", DOMID_SELF), 0};

    ask_port(job, ALLOC_UNBOUND, &a, &a.port);
    if (job->result > 0 && a.owner != DOMID_SELF && a.owner != own_domid())
        own(a.port, false);
}

static void bind_interdomain(struct job *job)
{
    struct {
        uint16_t remote;
        uint32_t remote_port, port;
    } a = {(uint16_t)number(job->command, "remote", DOMID_SELF),
           (uint32_t)number(job->command, "port", REQUIRED), 0};

    ask_port(job, BIND_INTERDOMAIN, &a, &a.port);
}

static void bind_virq(struct job *job)
{
    uint32_t a[3] = {(uint32_t)number(job->command, "virq", REQUIRED),
                     (uint32_t)number(job->command, "vcpu", 0)};

    ask_port(job, BIND_VIRQ, a, &a[2]);
}

static void bind_ipi(struct job *job)
{
    uint32_t a[2] = {(uint32_t)number(job->command, "vcpu", REQUIRED)};

    ask_port(job, BIND_IPI, a, &a[1]);
}

static void bind_pirq(struct job *job)
{
    uint32_t a[3] = {(uint32_t)number(job->command, "pirq", REQUIRED),
                     (uint32_t)number(job->command, "flags", 0)};

    ask_port(job, BIND_PIRQ, a, &a[2]);
}

static void one_port(struct job *job, uint64_t op)
{
    uint32_t port = (uint32_t)number(job->command, "port", REQUIRED);

    if (ask(job, op, &port) == 0 && op == CLOSE)
        own(port, false);
}

static void close(struct job *job)
{
    one_port(job, CLOSE);
}

static void send(struct job *job)
{
    one_port(job, SEND);
}

static void unmask(struct job *job)
{
    one_port(job, UNMASK);
}

static void port_and(struct job *job, uint64_t op, const char *what)
{
    uint32_t a[2] = {(uint32_t)number(job->command, "port", REQUIRED),
                     (uint32_t)number(job->command, what, REQUIRED)};

    ask(job, op, a);
}

static void bind_vcpu(struct job *job)
{
    port_and(job, BIND_VCPU, "vcpu");
}

static void set_priority(struct job *job)
{
    port_and(job, SET_PRIORITY, "priority");
}

static void ask_status(struct job *job, uint16_t owner, uint32_t port)
{
    struct {
        uint16_t owner;
        uint32_t port, state, vcpu;
        union {
            uint16_t remote; /* unbound, interdomain */
            uint32_t irq; /* pirq, virq */
        } u;
        uint32_t remote_port;
    } a = {.owner = owner, .port = port};

    job->status.remote = job->status.detail = 0;
    if (ask(job, STATUS, &a) < 0)
        return;
    job->status.state = a.state;
    job->status.vcpu = a.vcpu;
    if (a.state == 1 || a.state == 2)
        job->status.remote = a.u.remote;
    if (a.state == 2)
        job->status.detail = a.remote_port;
    if (a.state == 3 || a.state == 4)
        job->status.detail = a.u.irq;
}

static void status(struct job *job)
{
    ask_status(job, (uint16_t)number(job->command, "owner", DOMID_SELF),
               (uint32_t)number(job->command, "port", REQUIRED));
    if (job->result < 0)
        return;
    say("state", job->status.state);
    say("vcpu", job->status.vcpu);
    say("remote", job->status.remote);
    say("detail", job->status.detail);
}

static void survey(struct job *job)
{
    uint32_t port = (uint32_t)number(job->command, "first", 0);
    bool more = true;

    for (job->count = 0; more && job->count + 5 <= LIST; port++) {
        ask_status(job, (uint16_t)number(job->command, "owner", DOMID_SELF), port);
        more = job->result != -EINVAL;
        if (!more)
            break;
        if (job->result == 0 && job->status.state == CLOSED)
            continue;
        uint32_t *words = job->list + job->count;
        words[0] = port;
        words[1] = job->result ? HIDDEN : job->status.state;
        memcpy(words + 2, &job->status.vcpu, 3 * sizeof(*words));
        job->count += 5;
    }
    job->result = port;
    say("more", more);
    say_list("ports", job->list, job->count);
}

static void fill(struct job *job)
{
    uint64_t max = number(job->command, "max", REQUIRED), count;
    uint32_t list[3] = {0};

    for (count = 0; count < max; count++) {
        struct {
            uint16_t owner, remote;
            uint32_t port;
        } a = {DOMID_SELF, DOMID_SELF, 0};
        ask_port(job, ALLOC_UNBOUND, &a, &a.port);
        if (job->result < 0) {
            list[2] = (uint32_t)-job->result;
            break;
        }
        list[count != 0] = a.port;
    }
    job->result = (int64_t)count;
    say_list("ports", list, 3);
}

static void reset_with(struct job *job, uint64_t op)
{
    uint16_t domain = (uint16_t)number(job->command, "owner", REQUIRED);

    if (ask(job, op, &domain) == 0 && (domain == DOMID_SELF || domain == own_domid())) {
        events_after_reset();
        memset(ours, 0, sizeof(ours));
    }
}

static void reset(struct job *job)
{
    reset_with(job, RESET);
}

static void reset_cont(struct job *job)
{
    reset_with(job, RESET_CONT);
}

static void init_control(struct job *job)
{
    job->call = ticks();
    job->result = events_init_control((unsigned)number(job->command, "vcpu", REQUIRED),
                                      (uint32_t)number(job->command, "offset", 0),
                                      number(job->command, "frame", 0), job->fault);
    job->ret = ticks();
}

static void expand_array(struct job *job)
{
    job->call = ticks();
    job->result = events_expand_array(number(job->command, "frame", 0), job->fault);
    job->ret = ticks();
}

static void command(struct job *job)
{
    uint64_t op = number(job->command, "number", REQUIRED);
    uint32_t nothing[16] = {0};

    job->result = -EPERM;
    if (op >= FIRST_UNKNOWN)
        ask(job, op, nothing);
}

static void poll(struct job *job)
{
    struct {
        uint64_t ports;
        uint32_t count;
        uint64_t timeout;
    } a = {(uintptr_t)job->list, numbers(job->command, "ports", job->list, LIST),
           number(job->command, "timeout", 1)};

    uint64_t times = number(job->command, "times", 1);
    bool forever = a.timeout == 0;
    uint32_t took[MOST_POLLS];
    unsigned n = 0;

    while (n < times && n < MOST_POLLS && job->result == 0) {
        if (forever)
            a.timeout = xen_time() + FOREVER_NS;
        job->call = ticks();
        job->result = hypercall(SCHED_OP, POLL, job->fault ? NOT_MAPPED : &a, NULL);
        job->ret = ticks();
        took[n++] = (uint32_t)(job->ret - job->call);
    }
    say_list("took", took, n);
}

/* What is in memory: no hypercall. */

static void look(struct job *job)
{
    struct word word = events_word((uint32_t)number(job->command, "port", REQUIRED));
    unsigned vcpu = number(job->command, "vcpu", 0) ? 1 : 0;

    job->result = 0;
    say("pending", word.pending);
    say("masked", word.masked);
    say("linked", word.linked);
    say("upcall", events_upcall(vcpu));
    say("selectors", events_selectors(vcpu));
    say("ready", events_ready(vcpu));
}

static void mask(struct job *job)
{
    events_mask((uint32_t)number(job->command, "port", REQUIRED) % MAX_PORTS);
    job->result = 0;
}

/* What a guest can ask of whoever watches it: Xen sends an event on its own channel. */
static void request(struct job *job)
{
    job->result = hypercall(HVM_OP, GUEST_REQUEST, NULL, NULL);
}

static void wipe(struct job *job)
{
    events_wipe();
    job->result = 0;
}

static void take(struct job *job)
{
    job->count = events_take(number(job->command, "vcpu", 0) ? 1 : 0, job->list, LIST);
    job->result = job->count;
    say_list("ports", job->list, job->count < LIST ? job->count : LIST);
}

static const struct {
    const char *verb;
    void (*run)(struct job *job);
} operations[] = {
    {"alloc_unbound", alloc_unbound},
    {"bind_interdomain", bind_interdomain},
    {"bind_virq", bind_virq},
    {"bind_ipi", bind_ipi},
    {"bind_pirq", bind_pirq},
    {"close", close},
    {"send", send},
    {"status", status},
    {"bind_vcpu", bind_vcpu},
    {"unmask", unmask},
    {"set_priority", set_priority},
    {"reset", reset},
    {"reset_cont", reset_cont},
    {"init_control", init_control},
    {"expand_array", expand_array},
    {"command", command},
    {"poll", poll},
    {"survey", survey},
    {"fill", fill},
    {"look", look},
    {"mask", mask},
    {"take", take},
    {"wipe", wipe},
    {"request", request},
};

static enum fault fault_of(struct command *c)
{
    const char *text = word(c, "fault", "none");

    return strcmp(text, "in") == 0 ? FAULT_IN : strcmp(text, "out") == 0 ? FAULT_OUT : FAULT_NONE;
}

bool operation(struct job *job)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        if (strcmp(operations[i].verb, job->command->verb) == 0) {
            job->fault = fault_of(job->command);
            answer_ok();
            operations[i].run(job);
            if (job->command->bad)
                answer_error(EINVAL, "argument-missing");
            else if (job->result < 0)
                answer_error((unsigned)-job->result, job->command->verb);
            else
                say("result", (uint64_t)job->result);
            say("call", job->call);
            say("ret", job->ret);
            say("cpu", job->cpu);
            return true;
        }
    return false;
}

void close_all(void)
{
    for (uint32_t port = 0; port < MAX_PORTS; port++)
        if (ours[port / 8] >> port % 8 & 1) {
            event_channel_op(CLOSE, &port);
            own(port, false);
        }
}

unsigned own_domid(void)
{
    static unsigned domid;
    struct job job = {0};
    struct {
        uint16_t owner, remote;
        uint32_t port;
    } a = {DOMID_SELF, DOMID_SELF, 0};

    if (domid || event_channel_op(ALLOC_UNBOUND, &a))
        return domid;
    ask_status(&job, DOMID_SELF, a.port);
    event_channel_op(CLOSE, &a.port);
    domid = job.status.remote;
    return domid;
}
