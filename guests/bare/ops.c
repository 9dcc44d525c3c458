/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops.h"

#include "memory.h"
#include "xen.h"

#define GIVE_UP_US 8000u /* so long lasts a poll without time-out: no tick would ever end it */
#define MAX_POLLS 16u
#define STATE_HIDDEN 255u /* Xen does not tell: a channel of its own */
#define WORDS_PER_PORT 5u /* of list_ports: port, state, vCPU, remote, detail */

static uint8_t ours[MAX_PORTS / 8]; /* a bit for each port that we have to close */

static void set_ours(uint32_t port, bool yes)
{
    if (port < MAX_PORTS)
        ours[port / 8] =
            (uint8_t)((ours[port / 8] & ~(1u << port % 8)) | (unsigned)yes << port % 8);
}

/* One event channel operation, timed. */
static int64_t evtchnop(struct job *job, uint64_t op, void *argument)
{
    job->call = ticks();
    job->result = event_channel_op_fault(op, argument, job->fault);
    job->ret = ticks();
    return job->result;
}

/* The same for one that makes a port, which Xen writes to *port. */
static void evtchnop_new(struct job *job, uint64_t op, void *argument, const uint32_t *port)
{
    if (evtchnop(job, op, argument) == 0) {
        job->result = *port;
        set_ours(*port, true);
    }
}

/* --- EVTCHNOP_*, in the order of their numbers --- */

static void bind_interdomain(struct job *job)
{
    uint16_t remote = (uint16_t)optional(job->command, "remote", DOMID_SELF);
    uint32_t remote_port = (uint32_t)required(job->command, "port");
    union hypercall_arg arg = {.bind_interdomain = {remote, remote_port, 0}};

    evtchnop_new(job, EVTCHNOP_BIND_INTERDOMAIN, &arg, &arg.bind_interdomain.port);
}

static void bind_virq(struct job *job)
{
    uint32_t virq = (uint32_t)required(job->command, "virq");
    uint32_t vcpu = (uint32_t)optional(job->command, "vcpu", 0);
    union hypercall_arg arg = {.bind_virq = {virq, vcpu, 0}};

    evtchnop_new(job, EVTCHNOP_BIND_VIRQ, &arg, &arg.bind_virq.port);
}

static void bind_pirq(struct job *job)
{
    uint32_t pirq = (uint32_t)required(job->command, "pirq");
    uint32_t flags = (uint32_t)optional(job->command, "flags", 0);
    union hypercall_arg arg = {.bind_pirq = {pirq, flags, 0}};

    evtchnop_new(job, EVTCHNOP_BIND_PIRQ, &arg, &arg.bind_pirq.port);
}

static void one_port(struct job *job, uint64_t op)
{
    union hypercall_arg arg = {.one_port = {(uint32_t)required(job->command, "port")}};

    if (evtchnop(job, op, &arg) == 0 && op == EVTCHNOP_CLOSE)
        set_ours(arg.one_port.port, false);
}

static void close(struct job *job)
{
    one_port(job, EVTCHNOP_CLOSE);
}

static void send(struct job *job)
{
    one_port(job, EVTCHNOP_SEND);
}

void get_status(struct job *job, uint16_t owner, uint32_t port)
{
    union hypercall_arg arg = {.status = {.owner = owner, .port = port}};

    job->status.remote = job->status.detail = 0;
    if (evtchnop(job, EVTCHNOP_STATUS, &arg) < 0)
        return;
    job->status.state = arg.status.state;
    job->status.vcpu = arg.status.vcpu;
    switch (arg.status.state) {
    case EVTCHNSTAT_UNBOUND:
        job->status.remote = arg.status.u.unbound.remote;
        break;
    case EVTCHNSTAT_INTERDOMAIN:
        job->status.remote = arg.status.u.interdomain.remote;
        job->status.detail = arg.status.u.interdomain.port;
        break;
    case EVTCHNSTAT_PIRQ:
    case EVTCHNSTAT_VIRQ:
        job->status.detail = arg.status.u.irq;
        break;
    }
}

static void status(struct job *job)
{
    get_status(job, (uint16_t)optional(job->command, "owner", DOMID_SELF),
               (uint32_t)required(job->command, "port"));
    if (job->result < 0)
        return;
    answer_number("state", job->status.state);
    answer_number("vcpu", job->status.vcpu);
    answer_number("remote", job->status.remote);
    answer_number("detail", job->status.detail);
}

static void alloc_unbound(struct job *job)
{
    uint16_t owner = (uint16_t)optional(job->command, "owner", DOMID_SELF);
    uint16_t remote = (uint16_t)optional(job->command, "remote", DOMID_SELF);
    union hypercall_arg arg = {.alloc_unbound = {owner, remote, 0}};

    evtchnop_new(job, EVTCHNOP_ALLOC_UNBOUND, &arg, &arg.alloc_unbound.port);
    if (job->result > 0 && owner != DOMID_SELF && owner != own_domid())
        set_ours(arg.alloc_unbound.port, false);
}

static void bind_ipi(struct job *job)
{
    union hypercall_arg arg = {.bind_ipi = {(uint32_t)required(job->command, "vcpu"), 0}};

    evtchnop_new(job, EVTCHNOP_BIND_IPI, &arg, &arg.bind_ipi.port);
}

static void port_and_value(struct job *job, uint64_t op, const char *key)
{
    uint32_t port = (uint32_t)required(job->command, "port");
    union hypercall_arg arg = {.port_value = {port, (uint32_t)required(job->command, key)}};

    evtchnop(job, op, &arg);
}

static void bind_vcpu(struct job *job)
{
    port_and_value(job, EVTCHNOP_BIND_VCPU, "vcpu");
}

static void unmask(struct job *job)
{
    one_port(job, EVTCHNOP_UNMASK);
}

static void reset_with(struct job *job, uint64_t op)
{
    uint16_t domid = (uint16_t)required(job->command, "owner");
    union hypercall_arg arg = {.reset = {domid}};

    if (evtchnop(job, op, &arg) == 0 && (domid == DOMID_SELF || domid == own_domid())) {
        events_after_reset();
        memset(ours, 0, sizeof(ours));
    }
}

static void reset(struct job *job)
{
    reset_with(job, EVTCHNOP_RESET);
}

static void reset_cont(struct job *job)
{
    reset_with(job, EVTCHNOP_RESET_CONT);
}

static void init_control(struct job *job)
{
    unsigned vcpu = (unsigned)required(job->command, "vcpu");
    uint32_t offset = (uint32_t)optional(job->command, "offset", 0);
    bool good_frame = optional(job->command, "frame", 0);

    job->call = ticks();
    job->result = events_init_control(vcpu, offset, good_frame, job->fault);
    job->ret = ticks();
}

static void expand_array(struct job *job)
{
    bool good_frame = optional(job->command, "frame", 0);

    job->call = ticks();
    job->result = events_expand_array(good_frame, job->fault);
    job->ret = ticks();
}

static void set_priority(struct job *job)
{
    port_and_value(job, EVTCHNOP_SET_PRIORITY, "priority");
}

static void unknown_command(struct job *job)
{
    uint64_t op = required(job->command, "number");
    union hypercall_arg arg = {0};

    job->result = -EPERM;
    if (op >= EVTCHNOP_FIRST_UNKNOWN)
        evtchnop(job, op, &arg);
}

/* --- other hypercalls --- */

static void poll(struct job *job)
{
    union hypercall_arg arg = {
        .poll = {
            .ports = (uintptr_t)job->numbers,
            .count = numbers(job->command, "ports", job->numbers, MAX_NUMBERS),
            .timeout = optional(job->command, "timeout", 1),
        },
    };
    uint64_t times = optional(job->command, "times", 1);
    uint64_t give_up_ns = optional(job->command, "give_up_us", GIVE_UP_US) * 1000;
    bool forever = arg.poll.timeout == 0;
    uint32_t took[MAX_POLLS], woken[MAX_POLLS];
    unsigned n = 0;

    while (n < times && n < MAX_POLLS && job->result == 0) {
        void *given = job->fault ? NOT_MAPPED : &arg;
        uint64_t begun = xen_time();
        if (forever)
            arg.poll.timeout = begun + give_up_ns;
        job->call = ticks();
        job->result = hypercall(HYPERCALL_SCHED_OP, SCHEDOP_POLL, given, NULL);
        job->ret = ticks();
        /* No interrupt ever comes: only a time-out ends a sleep.  What we take for Xen's time is not
         * exact. */
        woken[n] = ns_since(begun) >= give_up_ns / 2;
        took[n++] = (uint32_t)(job->ret - job->call);
    }
    answer_numbers("took", took, n);
    answer_numbers("woken", woken, n);
}

/* Asks whoever has Xen watch this domain for attention: Xen sends an event on its own channel. */
static void guest_request(struct job *job)
{
    job->result = hypercall(HYPERCALL_HVM_OP, HVMOP_GUEST_REQUEST_VM_EVENT, NULL, NULL);
}

/* --- many hypercalls in one command --- */

static void list_ports(struct job *job)
{
    uint32_t port = (uint32_t)optional(job->command, "first", 0);
    uint16_t owner = (uint16_t)optional(job->command, "owner", DOMID_SELF);
    bool more = true;

    for (job->count = 0; job->count + WORDS_PER_PORT <= MAX_NUMBERS; port++) {
        uint32_t *words = job->numbers + job->count;
        get_status(job, owner, port);
        more = job->result != -EINVAL;
        if (!more)
            break;
        if (job->result == 0 && job->status.state == EVTCHNSTAT_CLOSED)
            continue;
        words[0] = port;
        words[1] = job->result ? STATE_HIDDEN : job->status.state;
        words[2] = job->status.vcpu;
        words[3] = job->status.remote;
        words[4] = job->status.detail;
        job->count += WORDS_PER_PORT;
    }
    job->result = port;
    answer_number("more", more);
    answer_numbers("ports", job->numbers, job->count);
}

static void fill(struct job *job)
{
    uint64_t max = required(job->command, "max"), count;
    uint32_t first_last_errno[3] = {0};

    for (count = 0; count < max; count++) {
        union hypercall_arg arg = {.alloc_unbound = {DOMID_SELF, DOMID_SELF, 0}};
        evtchnop_new(job, EVTCHNOP_ALLOC_UNBOUND, &arg, &arg.alloc_unbound.port);
        if (job->result < 0) {
            first_last_errno[2] = (uint32_t)-job->result;
            break;
        }
        first_last_errno[count != 0] = arg.alloc_unbound.port;
    }
    job->result = (int64_t)count;
    answer_numbers("ports", first_last_errno, 3);
}

/* --- what the guest does in its memory: no hypercall --- */

static void mask(struct job *job)
{
    events_mask((uint32_t)required(job->command, "port") % MAX_PORTS);
    job->result = 0;
}

static void handle_upcall(struct job *job)
{
    unsigned vcpu = optional(job->command, "vcpu", 0) ? 1 : 0;

    job->count = events_handle_upcall(vcpu, job->numbers, MAX_NUMBERS);
    job->result = job->count;
    answer_numbers("ports", job->numbers, job->count < MAX_NUMBERS ? job->count : MAX_NUMBERS);
}

static void clear_2l(struct job *job)
{
    events_clear_2l();
    job->result = 0;
}

static const struct {
    const char *verb;
    void (*run)(struct job *job);
} operations[] = {
    {"bind_interdomain", bind_interdomain},
    {"bind_virq", bind_virq},
    {"bind_pirq", bind_pirq},
    {"close", close},
    {"send", send},
    {"status", status},
    {"alloc_unbound", alloc_unbound},
    {"bind_ipi", bind_ipi},
    {"bind_vcpu", bind_vcpu},
    {"unmask", unmask},
    {"reset", reset},
    {"init_control", init_control},
    {"expand_array", expand_array},
    {"set_priority", set_priority},
    {"reset_cont", reset_cont},
    {"unknown_command", unknown_command},
    {"poll", poll},
    {"guest_request", guest_request},
    {"list_ports", list_ports},
    {"fill", fill},
    {"look", look},
    {"mask", mask},
    {"handle_upcall", handle_upcall},
    {"clear_2l", clear_2l},
};

static enum fault fault_of(struct command *c)
{
    const char *word = text(c, "fault", "none");

    return strcmp(word, "in") == 0 ? FAULT_IN : strcmp(word, "out") == 0 ? FAULT_OUT : FAULT_NONE;
}

bool make_operation(struct job *job)
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
                answer_number("result", (uint64_t)job->result);
            answer_number("call", job->call);
            answer_number("ret", job->ret);
            answer_number("cpu", job->vcpu);
            return true;
        }
    return false;
}

void close_all(void)
{
    for (uint32_t port = 0; port < MAX_PORTS; port++)
        if (ours[port / 8] >> port % 8 & 1) {
            event_channel_op(EVTCHNOP_CLOSE, &port);
            set_ours(port, false);
        }
}

unsigned own_domid(void)
{
    static unsigned domid;
    union hypercall_arg arg = {.alloc_unbound = {DOMID_SELF, DOMID_SELF, 0}};
    struct job job = {0};
    uint32_t port;

    if (domid || event_channel_op(EVTCHNOP_ALLOC_UNBOUND, &arg))
        return domid;
    port = arg.alloc_unbound.port;
    get_status(&job, DOMID_SELF, port);
    event_channel_op(EVTCHNOP_CLOSE, &port);
    domid = job.status.remote;
    return domid;
}
