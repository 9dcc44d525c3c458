/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "programme.h"

#include "events.h"
#include "grant_rings.h"
#include "memory.h"
#include "platform.h"
#include "second_vcpu.h"
#include "xen.h"

#define MAX_POLLED 130u /* Xen takes 128 */
#define GIVE_UP_NS 1000000u /* so long lasts a poll that nothing ends */
#define PATIENT_NS 50000000u
#define MAX_TAKEN 4096u
#define LOOKS_PER_TIME 256u
#define IN_THE_PAST 1u
#define LATE_NAP_NS 1000000u

struct run {
    unsigned vcpu, count;
    bool timed;
    char *seen; /* where the next one goes */
    uint32_t met; /* meetings of this vCPU */
    struct meeting_place *place;
};

static struct step steps[VCPUS][MAX_STEPS];
static char seen_memory[VCPUS * MAX_STEPS * sizeof(struct timed_seen)] PAGE_ALIGNED;

struct step *programme_steps(unsigned vcpu)
{
    return steps[vcpu];
}

/* --- the hypercalls --- */

/* Returns -errno, or 0 and for a new port its number. */
static int new_port(const struct run *run, const struct step *s, union hypercall_arg *arg,
                    const uint32_t *port, enum fault fault)
{
    int result = event_channel_op_fault(s->what, arg, fault);

    if (result)
        return result;
    slot_set(run->place, s->slot, *port);
    return (int)*port;
}

static int status(uint32_t owner, uint32_t port, enum fault fault, struct seen *seen)
{
    union hypercall_arg arg = {.status = {.owner = (uint16_t)owner, .port = port}};
    int result = event_channel_op_fault(EVTCHNOP_STATUS, &arg, fault);
    uint32_t remote = 0;

    if (result)
        return result;
    switch (arg.status.state) {
    case EVTCHNSTAT_UNBOUND:
        remote = arg.status.u.unbound.remote;
        break;
    case EVTCHNSTAT_INTERDOMAIN:
        remote = arg.status.u.interdomain.remote;
        seen->detail = arg.status.u.interdomain.port;
        break;
    case EVTCHNSTAT_PIRQ:
    case EVTCHNSTAT_VIRQ:
        seen->detail = arg.status.u.irq;
        break;
    }
    seen->told = status_word(arg.status.state, arg.status.vcpu, remote);
    return 0;
}

static int reset(uint64_t op, enum fault fault)
{
    union hypercall_arg arg = {.reset = {DOMID_SELF}};
    int result = event_channel_op_fault(op, &arg, fault);

    if (result == 0)
        events_after_reset();
    return result;
}

static int poll(const struct step *s, uint32_t port, uint32_t value, struct seen *seen)
{
    uint32_t ports[MAX_POLLED];
    union hypercall_arg arg = {.poll = {(uintptr_t)ports, s->number, IN_THE_PAST}};
    uint64_t begun = xen_time(), give_up = s->flags & STEP_PATIENT ? PATIENT_NS : GIVE_UP_NS;
    int64_t result;

    if (arg.poll.count > MAX_POLLED)
        arg.poll.count = MAX_POLLED;
    for (unsigned i = 0; i < arg.poll.count; i++)
        ports[i] = i ? value : port;
    if (!(s->flags & STEP_PAST))
        arg.poll.timeout = begun + give_up;
    result = hypercall(HYPERCALL_SCHED_OP, SCHEDOP_POLL,
                       s->flags & STEP_FAULT_IN ? NOT_MAPPED : &arg, NULL);
    if (result == 0 && !(s->flags & STEP_PAST) && ns_since(begun) >= give_up / 2)
        seen->bits |= SEEN_SLEPT;
    return (int)result;
}

/* --- what is no hypercall --- */

/* A number of a port whose sum over several ports tells them, in whatever order they came. */
static uint32_t mark(uint32_t port)
{
    return (port + 1) * 2654435761u ^ port << 16;
}

/* Take the events of vCPU `of`, on either vCPU. */
static int take(const struct run *run, unsigned of, struct seen *seen)
{
    static uint32_t taken[VCPUS][MAX_TAKEN];
    uint32_t *ports = taken[run->vcpu];
    unsigned count = events_handle_upcall(of % VCPUS, ports, MAX_TAKEN);

    for (unsigned i = 0; i < count && i < MAX_TAKEN; i++)
        seen->detail += mark(ports[i]);
    return (int)count;
}

static int begin(const struct run *run, enum fault fault)
{
    int result = reset(EVTCHNOP_RESET, fault);

    events_clear_2l();
    memset(run->place->slots, 0, sizeof(run->place->slots));
    return result;
}

static void spin_ns(uint64_t ns)
{
    uint64_t begun = ticks(), wanted = ns * (ticks_hz() / 1000) / 1000000;

    while (ticks() - begun < wanted)
        ;
}

/* Both leave as close to each other as can be: few of the looks are followed by one at the time. */
static int meet(struct run *run)
{
    struct meeting_place *place = run->place;
    unsigned other = 1 - run->vcpu;
    uint64_t begun = xen_time();

    meeting_arrive(place, run->vcpu, ++run->met);
    for (unsigned looks = 1; !meeting_has(place, other, place->number, run->met); looks++)
        if (looks % LOOKS_PER_TIME == 0 && ns_since(begun) > LONGEST_MEETING_NS)
            return -ETIMEDOUT;
    return 0;
}

/* --- one step --- */

static int make(struct run *run, const struct step *s, uint32_t port, uint32_t value,
                struct seen *seen)
{
    enum fault fault = s->flags & STEP_FAULT_IN    ? FAULT_IN
                       : s->flags & STEP_FAULT_OUT ? FAULT_OUT
                                                   : FAULT_NONE;
    bool good_frame = !(s->flags & STEP_BAD_FRAME);
    union hypercall_arg arg = {0};

    switch (s->what) {
    case EVTCHNOP_ALLOC_UNBOUND:
        arg.alloc_unbound.owner = (uint16_t)s->port;
        arg.alloc_unbound.remote = (uint16_t)value;
        return new_port(run, s, &arg, &arg.alloc_unbound.port, fault);
    case EVTCHNOP_BIND_INTERDOMAIN:
        arg.bind_interdomain.remote = (uint16_t)value;
        arg.bind_interdomain.remote_port = port;
        return new_port(run, s, &arg, &arg.bind_interdomain.port, fault);
    case EVTCHNOP_BIND_VIRQ:
        arg.bind_virq.virq = s->port;
        arg.bind_virq.vcpu = value;
        return new_port(run, s, &arg, &arg.bind_virq.port, fault);
    case EVTCHNOP_BIND_PIRQ:
        arg.bind_pirq.pirq = s->port;
        return new_port(run, s, &arg, &arg.bind_pirq.port, fault);
    case EVTCHNOP_BIND_IPI:
        arg.bind_ipi.vcpu = value;
        return new_port(run, s, &arg, &arg.bind_ipi.port, fault);
    case EVTCHNOP_CLOSE:
    case EVTCHNOP_SEND:
    case EVTCHNOP_UNMASK:
        arg.one_port.port = port;
        return event_channel_op_fault(s->what, &arg, fault);
    case EVTCHNOP_BIND_VCPU:
    case EVTCHNOP_SET_PRIORITY:
        arg.port_value.port = port;
        arg.port_value.value = value;
        return event_channel_op_fault(s->what, &arg, fault);
    case EVTCHNOP_STATUS:
        return status(value, port, fault, seen);
    case EVTCHNOP_RESET:
    case EVTCHNOP_RESET_CONT:
        return reset(s->what, fault);
    case EVTCHNOP_INIT_CONTROL:
        return events_init_control(s->number, value, good_frame, fault);
    case EVTCHNOP_EXPAND_ARRAY:
        return events_expand_array(good_frame, fault);
    case STEP_UNKNOWN_COMMAND:
        return event_channel_op(value, &arg);
    case STEP_POLL:
        return poll(s, port, value, seen);
    case STEP_BEGIN:
        return begin(run, fault);
    case STEP_TAKE:
        return take(run, s->number, seen);
    case STEP_LOOK:
        return 0;
    case STEP_SET_BIT:
        if (!port && s->number == BIT_PENDING)
            return -EINVAL; /* Up to 4.14.0 Xen would queue it, and in a queue 0 is the end. */
        /* fall through */
    case STEP_CLEAR_BIT:
        return events_set_bit(port, s->number, s->what == STEP_SET_BIT) ? 0 : -EINVAL;
    case STEP_MEET:
        return meet(run);
    case STEP_DELAY:
        spin_ns(value);
        return 0;
    }
    return -ENOSYS;
}

/* What is in shared memory after the step. */
static void look_after(const struct step *s, uint32_t port, struct seen *seen)
{
    struct port_bits bits = events_port_bits(port);

    seen->bits |= (bits.pending ? SEEN_PENDING : 0u) | (bits.masked ? SEEN_MASKED : 0u) |
                  (bits.linked ? SEEN_LINKED : 0u);
    for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++) {
        uint32_t words = events_ready(vcpu) | (uint32_t)events_selectors(vcpu);
        seen->bits |= events_upcall(vcpu) ? (uint32_t)SEEN_UPCALL << vcpu : 0u;
        if (s->what != EVTCHNOP_STATUS || seen->result)
            seen->told |= (words & 0xffff) << 16 * vcpu;
    }
}

static void run_steps(void *argument)
{
    struct run *run = argument;
    struct meeting_place *place = run->place;

    for (unsigned i = 0; i < run->count; i++) {
        const struct step *s = &steps[run->vcpu][i];
        uint32_t port = step_operand(place, s->port, s->flags & STEP_PORT_OF_SLOT);
        uint32_t value = step_operand(place, s->value, s->flags & STEP_VALUE_OF_SLOT);
        struct timed_seen now = {.port = port, .value = value};
        __atomic_store_n(&place->at[run->vcpu], i, __ATOMIC_RELAXED);
        if (run->timed)
            now.call = ticks();
        now.seen.result = make(run, s, port, value, &now.seen);
        if (run->timed)
            now.ret = ticks();
        look_after(s, port, &now.seen);
        if (run->timed)
            *(struct timed_seen *)run->seen = now;
        else
            *(struct seen *)run->seen = now.seen;
        run->seen += run->timed ? sizeof(now) : sizeof(now.seen);
        if (s->what == STEP_MEET) /* here, so that nothing else is between it and the next step */
            step_spin(s->value);
    }
    meeting_end(place, run->vcpu);
}

/* dom0 is told of the programme by another way, and may begin later than we. */
static bool dom0_comes(struct meeting_place *place)
{
    uint64_t begun = xen_time();

    while (!meeting_has(place, 1, place->number, 0)) {
        if (ns_since(begun) > PARTNER_COMES_NS)
            return false;
        sleep_ns(LATE_NAP_NS);
    }
    return true;
}

const void *programme_run(uint64_t number, const unsigned counts[VCPUS], bool timed,
                          bool with_dom0)
{
    struct meeting_place *place = meeting_place();
    size_t each = timed ? sizeof(struct timed_seen) : sizeof(struct seen);
    struct run runs[VCPUS] = {
        {0, counts[0], timed, seen_memory, 0, place},
        {1, counts[1], timed, seen_memory + counts[0] * each, 0, place},
    };

    memcpy(place->magic, "EVTCHNPG", sizeof(place->magic));
    place->number = number;
    for (unsigned vcpu = 0; vcpu < (with_dom0 ? 1 : VCPUS); vcpu++) {
        place->at[vcpu] = 0;
        meeting_begin(place, vcpu, number);
        if (!counts[vcpu])
            meeting_end(place, vcpu);
    }
    if (with_dom0 && !dom0_comes(place)) {
        meeting_end(place, 0);
        return NULL;
    }
    if (counts[1])
        second_vcpu_begin(run_steps, &runs[1]);
    run_steps(&runs[0]);
    if (counts[1])
        second_vcpu_wait();
    return seen_memory;
}
