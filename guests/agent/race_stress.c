/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * close:
 *     vCPU 0, the writer                            vCPU 1, the reader
 *     bind to port P: the new port is Q             send on P, without pause
 *     close Q
 *     allocate a port of the device: it is Q again
 *     is there an event on Q?  close Q
 *   Nobody knows the new port Q, so there is no event on it.  If there is one, vCPU 1 was inside
 *   the channel while vCPU 0 held its write side and closed it: Xen has "invented" the event.
 *
 * unmask, where P is a port of the device:
 *     vCPU 0, the writer                            vCPU 1, the reader
 *     bind to port P: the new port is Q
 *     send on Q, read the event: P is masked now
 *     send on Q again: P is pending, and masked
 *     close Q                                       enable P: Linux makes Xen unmask it
 *     read the event
 *   Whether Xen unmasks P before or after the close, it finds P pending and delivers the event.
 *   Nobody asks Xen a second time: if the event does not come now, it is "lost".
 *
 * dump, in dom0, where nobody else uses the physical interrupt:
 *     vCPU 0, the writer                            vCPU 1, the reader
 *     bind to the interrupt: the new port is Q      debug key i: Xen asks each port with an
 *     close Q                                       interrupt whether it is pending and masked
 *   Only Xen's console tells what it has seen; "checked" is how often it was asked.
 */
#include "race_stress.h"

#include <errno.h>
#include <string.h>

#include "device.h"
#include "probe.h"
#include "ticks.h"
#include "vcpu_worker.h"

#define HANDLE (HANDLES - 1)
#define JOIN_MS 5000u
#define ARRIVAL_MS 2000 /* an event that has not come by then, twice, is lost */
#define SKEW_US 60u /* how far apart close and unmask begin, at most */
#define PAUSE 400u /* spins, at most */

static struct {
    uint32_t port; /* P, in the comment above; 0: not there yet */
    unsigned ms;
    uint32_t pirq; /* of dump */
    uint64_t random; /* state of the generator */
    uint32_t round_begun; /* of unmask: vCPU 0 counts up, and vCPU 1 does its part of the round */
    uint32_t round_ended; /* vCPU 1 has done it */
    uint32_t beats; /* vCPU 1 counts while it waits: it runs, and has taken what is pending for it */
    bool stop;
    uint64_t rounds, sends, checked, invented, lost;
} race;

/* A random number from 0 to below - 1. */
static uint32_t random_below(uint32_t below)
{
    race.random ^= race.random << 13;
    race.random ^= race.random >> 7;
    race.random ^= race.random << 17;
    return (uint32_t)(race.random >> 11) % below;
}

static void spin(uint32_t times)
{
    while (times--)
        relax();
}

static bool stopped(void)
{
    return __atomic_load_n(&race.stop, __ATOMIC_ACQUIRE);
}

static void wait_ticks(uint64_t count)
{
    uint64_t begin = ticks();

    while (ticks() - begin < count)
        relax();
}

static uint32_t await_port(void)
{
    uint32_t port;

    while (!(port = __atomic_load_n(&race.port, __ATOMIC_ACQUIRE)) && !stopped())
        relax();
    return port;
}

static int send_without_pause(struct actor *a, struct job *job)
{
    uint32_t port = await_port();

    (void)job;
    while (!stopped()) {
        raw_send_unrecorded(a, port);
        race.sends++;
    }
    return 0;
}

/* Allocate a port; if it is the wanted one, see whether it has an event; close it. */
static int check_new_port(struct actor *a, uint32_t wanted)
{
    uint32_t events[8];
    int count, port = device_bind_unbound(a, HANDLE, DOMID_SELF);

    if (port < 0)
        return port;
    if ((uint32_t)port == wanted) {
        spin(PAUSE);
        count = device_read(a, HANDLE, events, 8, 0);
        race.checked++;
        race.invented += count > 0;
    }
    return device_unbind(a, HANDLE, (uint32_t)port);
}

static int close_under_sender(struct actor *a, struct job *job)
{
    uint64_t end = ticks() + ticks_hz() / 1000 * race.ms;
    int error, port = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);

    (void)job;
    if (port < 0)
        return port;
    __atomic_store_n(&race.port, (uint32_t)port, __ATOMIC_RELEASE);
    do {
        int other = raw_bind_interdomain(a, DOMID_SELF, (uint32_t)port);
        if (other < 0)
            return other;
        spin(random_below(PAUSE));
        error = raw_close(a, (uint32_t)other);
        if (!error && random_below(2))
            error = check_new_port(a, (uint32_t)other);
        race.rounds++;
    } while (error >= 0 && ticks() < end);
    __atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
    raw_close(a, (uint32_t)port);
    return error < 0 ? error : 0;
}

static int unmask_each_round(struct actor *a, struct job *job)
{
    uint32_t port = await_port(), done = 0;

    (void)job;
    while (!stopped()) {
        if (__atomic_load_n(&race.round_begun, __ATOMIC_ACQUIRE) == done) {
            __atomic_store_n(&race.beats, race.beats + 1, __ATOMIC_RELEASE);
            relax();
            continue;
        }
        wait_ticks(ticks_hz() / 1000000 * (done * 7 % SKEW_US));
        device_enable(a, HANDLE, &port, 1);
        __atomic_store_n(&race.round_ended, ++done, __ATOMIC_RELEASE);
    }
    return 0;
}

/* Read one event; Linux masks its port.  Returns 0, or -ETIME when none came. */
static int read_event(struct actor *a)
{
    uint32_t event;
    int count = device_read(a, HANDLE, &event, 1, ARRIVAL_MS);

    return count < 0 ? count : count == 0 ? -ETIME : 0;
}

static void await_beat(void)
{
    uint32_t before = __atomic_load_n(&race.beats, __ATOMIC_ACQUIRE);

    while (__atomic_load_n(&race.beats, __ATOMIC_ACQUIRE) == before)
        relax();
}

static int unmask_round(struct actor *a, uint32_t port)
{
    int error, other = raw_bind_interdomain(a, DOMID_SELF, port);

    if (other < 0)
        return other;
    raw_send(a, (uint32_t)other);
    error = read_event(a);
    if (error)
        return error == -ETIME ? -EAGAIN : error; /* no race yet: the machine is too slow */
    raw_send(a, (uint32_t)other); /* pending, and masked */
    __atomic_store_n(&race.round_begun, race.round_begun + 1, __ATOMIC_RELEASE);
    wait_ticks(ticks_hz() / 1000000 * random_below(SKEW_US));
    error = raw_close(a, (uint32_t)other);
    while (__atomic_load_n(&race.round_ended, __ATOMIC_ACQUIRE) != race.round_begun)
        relax();
    if (error)
        return error;
    race.checked++;
    error = read_event(a);
    if (error == -ETIME) { /* vCPU 1, whose event it may be, may have had no CPU for so long */
        await_beat();
        error = read_event(a);
    }
    if (error == -ETIME) {
        race.lost++;
        return error;
    }
    device_enable(a, HANDLE, &port, 1);
    return error;
}

static int close_under_unmask(struct actor *a, struct job *job)
{
    uint64_t end = ticks() + ticks_hz() / 1000 * race.ms;
    int error, port = device_bind_unbound(a, HANDLE, DOMID_SELF);

    (void)job;
    if (port < 0)
        return port;
    __atomic_store_n(&race.port, (uint32_t)port, __ATOMIC_RELEASE);
    do {
        error = unmask_round(a, (uint32_t)port);
        race.rounds++;
    } while (!error && ticks() < end);
    __atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
    device_unbind(a, HANDLE, (uint32_t)port);
    return error == -ETIME && race.lost ? 0 : error;
}

static int dump_without_pause(struct actor *a, struct job *job)
{
    int error = 0;

    while (!error && !stopped()) {
        error = probe_dump_irqs(a, job);
        race.checked++;
    }
    return error;
}

static int bind_under_dump(struct actor *a, struct job *job)
{
    uint64_t end = ticks() + ticks_hz() / 1000 * race.ms;
    int error;

    do {
        int port;
        job->a = race.pirq;
        job->b = 0;
        port = probe_bind_pirq(a, job);
        if (port < 0)
            return port;
        spin(random_below(PAUSE));
        error = raw_close(a, (uint32_t)port);
        race.rounds++;
    } while (!error && ticks() < end);
    return error;
}

static const struct {
    const char *name;
    job_function writer; /* on vCPU 0 */
    job_function reader; /* on vCPU 1 */
} kinds[] = {
    {"close", close_under_sender, send_without_pause},
    {"unmask", close_under_unmask, unmask_each_round},
    {"dump", bind_under_dump, dump_without_pause},
};

static void run_race(struct session *s, size_t kind)
{
    struct job writer = {.run = kinds[kind].writer}, reader = {.run = kinds[kind].reader};
    unsigned overdue = 0;
    int error = worker_begin(1, &reader);

    if (!error) {
        error = worker_begin(0, &writer);
        if (!error)
            error = worker_wait(0, race.ms + JOIN_MS, &writer);
        __atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
        if (!error) {
            overdue = 1;
            error = worker_wait(1, JOIN_MS, &reader);
        }
        if (!error)
            error = writer.result < 0 ? writer.result : reader.result;
    }
    if (error)
        answer(s, -error, "what=%s on=%u", error == -ETIME ? "in-flight" : "race", overdue);
    else
        answer(s, 0, "rounds=%llu sends=%llu checked=%llu invented=%llu lost=%llu",
               (unsigned long long)race.rounds, (unsigned long long)race.sends,
               (unsigned long long)race.checked, (unsigned long long)race.invented,
               (unsigned long long)race.lost);
}

static void race_command(struct session *s, struct command *c)
{
    const char *name = text(c, "kind", "");
    size_t kind = 0;

    memset(&race, 0, sizeof(race));
    race.ms = (unsigned)required(c, "ms", 600000);
    race.pirq = (uint32_t)optional(c, "pirq", UINT32_MAX, 0);
    race.random = optional(c, "seed", UINT32_MAX, 1) + 0x9e3779b97f4a7c15u;
    while (kind < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[kind].name, name) != 0)
        kind++;
    if (kind == sizeof(kinds) / sizeof(kinds[0]))
        c->bad = "kind";
    if (refuse(s, c))
        return;
    if (workers_count() < 2) {
        answer(s, EOPNOTSUPP, "what=one-vcpu");
        return;
    }
    run_race(s, kind);
}

static const struct verb verbs[] = {{"race", race_command}, {NULL, NULL}};

bool race_commands(struct session *s, struct command *c)
{
    return run_verb(verbs, s, c);
}
