/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * close: vCPU 1 sends on a port without pause while vCPU 0 binds to it and closes its end
 * again.  The end's number then goes to a new port of the device, on which no event may come:
 * one that does was set by a sender inside a channel that a writer had for itself.
 *
 * unmask: an event is pending on a masked port of the device.  vCPU 1 lets it through (Linux
 * unmasks it, and asks Xen to deliver what is pending) at the moment when vCPU 0 closes the
 * other end.  The event has to arrive: nobody will ask Xen a second time.
 */
#include "duel.h"

#include <errno.h>
#include <string.h>

#include "device.h"
#include "hands.h"
#include "ticks.h"

#define HANDLE (HANDLES - 1)
#define JOIN_MS 5000u
#define ARRIVAL_MS 2000 /* no event so long after it was let through: it is lost */
#define SKEW_US 60u
#define PAUSE 400u /* spins, at most */

static struct {
    uint32_t port; /* the channel that both vCPUs are at; 0: not yet */
    unsigned ms;
    uint64_t random;
    uint32_t round; /* of unmask: the one that vCPU 1 may begin, and has ended */
    uint32_t ended;
    bool stop;
    uint64_t rounds, sends, checked, invented, lost;
} race;

static uint32_t chance(uint32_t below)
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

static int send_on(struct actor *a, struct request *q)
{
    uint32_t port = await_port();

    (void)q;
    while (!stopped()) {
        raw_send_unrecorded(a, port);
        race.sends++;
    }
    return 0;
}

/* Whether a port that nobody can know yet already has an event. */
static int look_at_new_port(struct actor *a, uint32_t wanted)
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

static int close_under_sender(struct actor *a, struct request *q)
{
    uint64_t end = ticks() + ticks_hz() / 1000 * race.ms;
    int error, port = raw_alloc_unbound(a, DOMID_SELF, DOMID_SELF);

    (void)q;
    if (port < 0)
        return port;
    __atomic_store_n(&race.port, (uint32_t)port, __ATOMIC_RELEASE);
    do {
        int other = raw_bind_interdomain(a, DOMID_SELF, (uint32_t)port);
        if (other < 0)
            return other;
        spin(chance(PAUSE));
        error = raw_close(a, (uint32_t)other);
        if (!error && chance(2))
            error = look_at_new_port(a, (uint32_t)other);
        race.rounds++;
    } while (error >= 0 && ticks() < end);
    __atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
    raw_close(a, (uint32_t)port);
    return error < 0 ? error : 0;
}

static int let_through(struct actor *a, struct request *q)
{
    uint32_t port = await_port(), done = 0;

    (void)q;
    while (!stopped()) {
        if (__atomic_load_n(&race.round, __ATOMIC_ACQUIRE) == done) {
            relax();
            continue;
        }
        wait_ticks(ticks_hz() / 1000000 * (done * 7 % SKEW_US));
        device_enable(a, HANDLE, &port, 1);
        __atomic_store_n(&race.ended, ++done, __ATOMIC_RELEASE);
    }
    return 0;
}

/* One event of `port`, which then is masked.  Returns 0, or -ETIME when none came. */
static int take_event(struct actor *a)
{
    uint32_t event;
    int count = device_read(a, HANDLE, &event, 1, ARRIVAL_MS);

    return count < 0 ? count : count == 0 ? -ETIME : 0;
}

static int unmask_round(struct actor *a, uint32_t port)
{
    int error, other = raw_bind_interdomain(a, DOMID_SELF, port);

    if (other < 0)
        return other;
    raw_send(a, (uint32_t)other);
    error = take_event(a);
    if (error)
        return error == -ETIME ? -EAGAIN : error; /* nothing raced: the machine is too slow */
    raw_send(a, (uint32_t)other); /* pending, and masked */
    __atomic_store_n(&race.round, race.round + 1, __ATOMIC_RELEASE);
    wait_ticks(ticks_hz() / 1000000 * chance(SKEW_US));
    error = raw_close(a, (uint32_t)other);
    while (__atomic_load_n(&race.ended, __ATOMIC_ACQUIRE) != race.round)
        relax();
    if (error)
        return error;
    race.checked++;
    error = take_event(a);
    if (error == -ETIME) {
        race.lost++;
        return error;
    }
    device_enable(a, HANDLE, &port, 1);
    return error;
}

static int close_under_unmask(struct actor *a, struct request *q)
{
    uint64_t end = ticks() + ticks_hz() / 1000 * race.ms;
    int error, port = device_bind_unbound(a, HANDLE, DOMID_SELF);

    (void)q;
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

static const struct {
    const char *name;
    operation writer; /* on vCPU 0 */
    operation reader; /* on vCPU 1 */
} kinds[] = {
    {"close", close_under_sender, send_on},
    {"unmask", close_under_unmask, let_through},
};

static void fight(struct session *s, size_t kind)
{
    struct request writer = {.run = kinds[kind].writer}, reader = {.run = kinds[kind].reader};
    unsigned overdue = 0;
    int error = hand_begin(1, &reader);

    if (!error) {
        error = hand_begin(0, &writer);
        if (!error)
            error = hand_join(0, race.ms + JOIN_MS, &writer);
        __atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
        if (!error) {
            overdue = 1;
            error = hand_join(1, JOIN_MS, &reader);
        }
        if (!error)
            error = writer.result;
    }
    if (error)
        answer(s, -error, "what=%s on=%u", error == -ETIME ? "in-flight" : "duel", overdue);
    else
        answer(s, 0, "rounds=%llu sends=%llu checked=%llu invented=%llu lost=%llu",
               (unsigned long long)race.rounds, (unsigned long long)race.sends,
               (unsigned long long)race.checked, (unsigned long long)race.invented,
               (unsigned long long)race.lost);
}

static void duel(struct session *s, struct command *c)
{
    const char *name = text(c, "kind", "");
    size_t kind = 0;

    memset(&race, 0, sizeof(race));
    race.ms = (unsigned)required(c, "ms", 600000);
    race.random = optional(c, "seed", UINT32_MAX, 1) + 0x9e3779b97f4a7c15u;
    while (kind < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[kind].name, name) != 0)
        kind++;
    if (kind == sizeof(kinds) / sizeof(kinds[0]))
        c->bad = "kind";
    if (refuse(s, c))
        return;
    if (hands_count() < 2) {
        answer(s, EOPNOTSUPP, "what=one-vcpu");
        return;
    }
    fight(s, kind);
}

static const struct verb verbs[] = {{"duel", duel}, {NULL, NULL}};

bool duel_commands(struct session *s, struct command *c)
{
    return run_verb(verbs, s, c);
}
