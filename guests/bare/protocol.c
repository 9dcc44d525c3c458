/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "protocol.h"

#include "memory.h"
#include "xen.h"

#define LINE_BYTES 8192u
#define LONGEST_NAP_NS 5000000ull /* the relay wants to see the heartbeat change */

static char line[LINE_BYTES], reply[LINE_BYTES];
static unsigned reply_bytes;
static const char *payload;
static size_t payload_bytes;
static bool new_relay;

bool relay_is_new(void)
{
    bool is_new = new_relay;

    new_relay = false;
    return is_new;
}

/* --- commands --- */

/* The rings' bytes lie behind the control page, in the order of its grants. */
static char *ring_bytes(struct control *control, unsigned first_page)
{
    return (char *)control + (1 + first_page) * PAGE_BYTES;
}

/* Sleep a little.  If a relay has come meanwhile, begin a session with it. */
static void wait(struct control *control, struct patience *patience)
{
    uint32_t session = __atomic_load_n(&control->session, __ATOMIC_ACQUIRE);

    if (session != control->accepted) {
        memset(&control->to_domu, 0, sizeof(control->to_domu));
        memset(&control->to_dom0, 0, sizeof(control->to_dom0));
        __atomic_store_n(&control->accepted, session, __ATOMIC_RELEASE);
        new_relay = true;
    }
    control->heartbeat++;
    sleep_ns((uint64_t)patience_ns(patience) % LONGEST_NAP_NS);
}

static char next_byte(struct control *control, struct patience *patience)
{
    size_t at;

    while (!ring_filled(&control->to_domu, PAGES_TO_DOMU * PAGE_BYTES, &at))
        wait(control, patience);
    char byte = ring_bytes(control, 0)[at];
    ring_consume(&control->to_domu, 1);
    return byte;
}

void next_bytes(struct control *control, void *to, size_t count)
{
    struct patience patience = {0};

    for (size_t done = 0; done < count;) {
        size_t at, filled = ring_filled(&control->to_domu, PAGES_TO_DOMU * PAGE_BYTES, &at);
        if (filled == 0) {
            wait(control, &patience);
            continue;
        }
        patience.idle = 0;
        if (filled > count - done)
            filled = count - done;
        if (to)
            memcpy((char *)to + done, ring_bytes(control, 0) + at, filled);
        ring_consume(&control->to_domu, filled);
        done += filled;
    }
}

static void parse(struct command *c, char *words)
{
    *c = (struct command){.verb = words};
    for (char *at = words; *at; at++) {
        if (*at == ' ') {
            *at = '\0';
            if (c->count < MAX_WORDS)
                c->words[c->count++].key = at + 1;
        } else if (*at == '=' && c->count && !c->words[c->count - 1].value) {
            *at = '\0';
            c->words[c->count - 1].value = at + 1;
        }
    }
}

struct command *next_command(struct control *control)
{
    static struct command c;
    struct patience patience = {0};
    unsigned length = 0;

    for (;;) {
        char byte = next_byte(control, &patience);
        if (byte == '\n')
            break;
        if (length < sizeof(line) - 1)
            line[length++] = byte;
    }
    line[length] = '\0';
    parse(&c, line);
    return &c;
}

/* Returns where the digits end; NULL if there are none. */
static const char *digits(const char *at, uint64_t *value)
{
    const char *begin = at;

    for (*value = 0; *at >= '0' && *at <= '9'; at++)
        *value = *value * 10 + (uint64_t)(*at - '0');
    return at == begin ? NULL : at;
}

const char *text(struct command *c, const char *key, const char *otherwise)
{
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->words[i].key, key) == 0 && c->words[i].value)
            return c->words[i].value;
    return otherwise;
}

uint64_t optional(struct command *c, const char *key, uint64_t otherwise)
{
    const char *word = text(c, key, NULL);
    uint64_t value = otherwise;

    if (word && !digits(word, &value))
        c->bad = key;
    return value;
}

uint64_t required(struct command *c, const char *key)
{
    if (!text(c, key, NULL))
        c->bad = key;
    return optional(c, key, UINT64_MAX);
}

unsigned numbers(struct command *c, const char *key, uint32_t *values, unsigned room)
{
    const char *at = text(c, key, "");
    unsigned count = 0;

    while (*at && count < room) {
        uint64_t value;
        at = digits(at, &value);
        if (!at || (*at && *at != ',')) {
            c->bad = key;
            return 0;
        }
        values[count++] = (uint32_t)value;
        at += *at == ',';
    }
    return count;
}

/* --- answers --- */

static void put(char byte)
{
    if (reply_bytes < sizeof(reply) - 1)
        reply[reply_bytes++] = byte;
}

static void put_text(const char *characters)
{
    while (*characters)
        put(*characters++);
}

static void put_number(uint64_t value)
{
    if (value >= 10)
        put_number(value / 10);
    put((char)('0' + value % 10));
}

static void put_key(const char *key)
{
    put(' ');
    put_text(key);
    put('=');
}

void answer_ok(void)
{
    reply_bytes = 0;
    payload_bytes = 0;
    put_text("ok");
}

void answer_error(unsigned error, const char *what)
{
    reply_bytes = 0;
    payload_bytes = 0;
    put_text("err");
    answer_number("errno", error);
    answer_word("what", what);
}

void answer_number(const char *key, uint64_t value)
{
    put_key(key);
    put_number(value);
}

void answer_more(uint64_t value)
{
    put(',');
    put_number(value);
}

void answer_word(const char *key, const char *value)
{
    put_key(key);
    put_text(value);
}

void answer_numbers(const char *key, const uint32_t *values, unsigned count)
{
    put_key(key);
    for (unsigned i = 0; i < count; i++) {
        if (i)
            put(',');
        put_number(values[i]);
    }
}

void answer_bytes(const void *bytes, size_t count)
{
    answer_number("bytes", count);
    payload = bytes;
    payload_bytes = count;
}

static void send_all(struct control *control, const char *bytes, size_t count)
{
    struct patience patience = {0};

    for (size_t done = 0; done < count;) {
        size_t at, room = ring_room(&control->to_dom0, PAGES_TO_DOM0 * PAGE_BYTES, &at);
        if (room == 0) {
            wait(control, &patience);
            continue;
        }
        patience.idle = 0;
        if (room > count - done)
            room = count - done;
        memcpy(ring_bytes(control, PAGES_TO_DOMU) + at, bytes + done, room);
        ring_produce(&control->to_dom0, room);
        done += room;
    }
}

void answer_send(struct control *control)
{
    put('\n');
    send_all(control, reply, reply_bytes);
    send_all(control, payload, payload_bytes);
}
