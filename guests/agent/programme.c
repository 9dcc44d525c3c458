/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "programme.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "grant_map.h"
#include "ports.h"
#include "raw.h"
#include "steps.h"
#include "ticks.h"
#include "vcpu_worker.h"

#define OWN 1u /* our side of the meeting place; the guest's vCPU 0 is the other */
#define GUEST 0u
#define LONGEST_MS 100000u
#define LOOKS_PER_TIME 256u
#define LATE_NAP_NS 1000000l

static struct {
    uint64_t number;
    uint64_t meeting_ticks, coming_ticks; /* so long a side waits */
    struct meeting_place *place;
    unsigned count;
    uint32_t met;
    unsigned opened; /* since the last CLOSE_ALL */
} run;
static struct step steps[MAX_STEPS];
static struct timed_seen seen[MAX_STEPS];
static uint32_t opened[MAX_STEPS];

static int new_port(const struct step *s, uint16_t owner, int port)
{
    if (port < 0)
        return port;
    slot_set(run.place, s->slot, (uint32_t)port);
    if (owner == DOMID_SELF)
        opened[run.opened++] = (uint32_t)port;
    return port;
}

/* Returns 0, or the first error. */
static int close_all(struct actor *a)
{
    int first = 0;

    for (unsigned i = 0; i < run.opened; i++)
        if (port_owner(opened[i]) & OWNED_RAW) {
            int error = raw_close(a, opened[i]);
            first = first ? first : error;
        }
    run.opened = 0;
    return first;
}

static int status(struct actor *a, uint32_t port, uint16_t owner, struct seen *now)
{
    struct channel_status told;
    int result = raw_status_of(a, owner, port, &told);

    if (result == 0) {
        now->told = status_word(told.state, told.vcpu, told.remote);
        now->detail = told.detail;
    }
    return result;
}

static int meet(void)
{
    uint64_t begun = ticks();

    meeting_arrive(run.place, OWN, ++run.met);
    for (unsigned looks = 1; !meeting_has(run.place, GUEST, run.number, run.met); looks++)
        if (looks % LOOKS_PER_TIME == 0 && ticks() - begun > run.meeting_ticks)
            return -ETIMEDOUT;
    return 0;
}

static bool changes_port(unsigned what)
{
    return what == EVTCHNOP_CLOSE || what == EVTCHNOP_SEND || what == EVTCHNOP_UNMASK ||
           what == EVTCHNOP_BIND_VCPU;
}

/* Port 0 is nobody's; what an empty slot stands for does no harm. */
static bool is_linuxs(uint32_t port)
{
    return port && !(port_owner(port) & EVER_OWNED);
}

static int make(struct actor *a, const struct step *s, uint32_t port, uint32_t value,
                struct seen *now)
{
    switch (s->what) {
    case EVTCHNOP_ALLOC_UNBOUND:
        return new_port(s, (uint16_t)port, raw_alloc_unbound(a, (uint16_t)port, (uint16_t)value));
    case EVTCHNOP_BIND_INTERDOMAIN:
        return new_port(s, DOMID_SELF, raw_bind_interdomain(a, (uint16_t)value, port));
    case EVTCHNOP_CLOSE:
        return raw_close(a, port);
    case EVTCHNOP_SEND:
        return raw_send(a, port);
    case EVTCHNOP_STATUS:
        return status(a, port, (uint16_t)value, now);
    case EVTCHNOP_BIND_VCPU:
        return raw_bind_vcpu(a, port, value);
    case EVTCHNOP_UNMASK:
        return raw_unmask(a, port);
    case STEP_MEET:
        return meet();
    case STEP_CLOSE_ALL:
        return close_all(a);
    }
    return -ENOSYS;
}

/* Returns whether the guest has begun the same programme in time. */
static bool guest_comes(void)
{
    struct timespec nap = {0, LATE_NAP_NS};
    uint64_t begun = ticks();

    while (!meeting_has(run.place, GUEST, run.number, 0)) {
        if (ticks() - begun > run.coming_ticks)
            return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

/* Returns 0, or -EPERM if a step would change a port of Linux's: then it is not made. */
static int run_steps(struct actor *a)
{
    for (unsigned i = 0; i < run.count; i++) {
        const struct step *s = &steps[i];
        uint32_t port = step_operand(run.place, s->port, s->flags & STEP_PORT_OF_SLOT);
        uint32_t value = step_operand(run.place, s->value, s->flags & STEP_VALUE_OF_SLOT);
        struct timed_seen now = {.port = port, .value = value};
        __atomic_store_n(&run.place->at[OWN], i, __ATOMIC_RELAXED);
        if (changes_port(s->what) && is_linuxs(port))
            return -EPERM;
        now.call = ticks();
        now.seen.result = make(a, s, port, value, &now.seen);
        now.ret = ticks();
        seen[i] = now;
        if (s->what == STEP_MEET) /* here, so that nothing else is between it and the next step */
            step_spin(s->value);
    }
    return 0;
}

static int run_programme(struct actor *a, struct job *job)
{
    int error = 0;

    (void)job;
    run.place->at[OWN] = 0;
    meeting_begin(run.place, OWN, run.number);
    if (guest_comes())
        error = run_steps(a);
    else
        error = -ETIMEDOUT;
    meeting_end(run.place, OWN);
    close_all(a);
    forget_closed_ports(); /* Linux may be given their numbers now */
    return error;
}

/* Returns 0 or -errno; `peer` has granted the page of meetings. */
static int run_with(unsigned vcpu, unsigned peer, uint32_t ref)
{
    struct job job = {.run = run_programme};
    int error, fd = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    run.place = grant_map(fd, peer, &ref, 1);
    error = run.place ? worker_run(vcpu, LONGEST_MS, &job) : -errno;
    if (error == -ETIME) /* Xen holds it fast: it still sees the page */
        return error;
    if (run.place)
        munmap(run.place, PAGE_BYTES);
    close(fd);
    return error ? error : job.result;
}

static void programme(struct session *s, struct command *c)
{
    unsigned count = (unsigned)required(c, "steps", MAX_STEPS);
    unsigned vcpu = (unsigned)optional(c, "on", workers_count() - 1, 0);
    unsigned peer = (unsigned)required(c, "peer", UINT16_MAX);
    uint32_t ref = (uint32_t)required(c, "meeting", UINT32_MAX);
    uint64_t hz = ticks_hz();
    int error;

    run.number = required(c, "number", UINT64_MAX);
    run.meeting_ticks = hz / 1000 * (LONGEST_MEETING_NS / 1000000);
    run.coming_ticks = hz / 1000 * (PARTNER_COMES_NS / 1000000);
    if (!run.number && !c->bad)
        c->bad = "number"; /* of no programme */
    run.count = count;
    run.met = run.opened = 0;
    if (refuse(s, c)) /* how many bytes follow is not known: what comes is no command */
        return;
    next_bytes(s, steps, count * sizeof(steps[0]));
    if (s->ended)
        return;
    error = run_with(vcpu, peer, ref);
    if (error) {
        answer(s, -error, "what=%s on=%u", error == -ETIME ? "in-flight" : "programme", vcpu);
        return;
    }
    answer(s, 0, "tick_hz=%llu bytes=%zu", (unsigned long long)hz, count * sizeof(seen[0]));
    answer_bytes(s, seen, count * sizeof(seen[0]));
}

static const struct verb verbs[] = {{"programme", programme}, {NULL, NULL}};

bool programme_commands(struct session *s, struct command *c)
{
    return run_verb(verbs, s, c);
}
