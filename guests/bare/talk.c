/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "talk.h"

#include "../agent/shared.h"

#define LINE_BYTES 8192u
#define BEAT_NS 5000000ull /* the relay wants a sign of life now and then */

static char line[LINE_BYTES], said[LINE_BYTES];
static unsigned said_bytes;
static bool came;

bool newcomer(void)
{
    bool seen = came;

    came = false;
    return seen;
}

/* The ring's bytes lie behind the control page, in the order of its grants. */
static char *ring_bytes(struct control *control, unsigned first_page)
{
    return (char *)control + (1 + first_page) * PAGE_BYTES;
}

static void wait(struct control *control, struct patience *patience)
{
    uint32_t session = __atomic_load_n(&control->session, __ATOMIC_ACQUIRE);

    if (session != control->accepted) {
        memset(&control->to_domu, 0, sizeof(control->to_domu));
        memset(&control->to_dom0, 0, sizeof(control->to_dom0));
        __atomic_store_n(&control->accepted, session, __ATOMIC_RELEASE);
        came = true;
    }
    control->heartbeat++;
    doze((uint64_t)patience_ns(patience) % BEAT_NS);
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

static void take_apart(struct command *c, char *text)
{
    *c = (struct command){.verb = text};
    for (char *at = text; *at; at++) {
        if (*at == ' ') {
            *at = '\0';
            if (c->count < WORDS)
                c->words[c->count++].key = at + 1;
        } else if (*at == '=' && c->count && !c->words[c->count - 1].value) {
            *at = '\0';
            c->words[c->count - 1].value = at + 1;
        }
    }
}

struct command *listen(struct control *control)
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
    take_apart(&c, line);
    return &c;
}

static const char *digits(const char *at, uint64_t *value)
{
    const char *begin = at;

    for (*value = 0; *at >= '0' && *at <= '9'; at++)
        *value = *value * 10 + (uint64_t)(*at - '0');
    return at == begin ? NULL : at;
}

const char *word(struct command *c, const char *key, const char *otherwise)
{
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->words[i].key, key) == 0 && c->words[i].value)
            return c->words[i].value;
    return otherwise;
}

uint64_t number(struct command *c, const char *key, uint64_t otherwise)
{
    const char *text = word(c, key, NULL);
    uint64_t value = otherwise;

    if (text ? !digits(text, &value) : otherwise == REQUIRED)
        c->bad = key;
    return value;
}

unsigned numbers(struct command *c, const char *key, uint32_t *values, unsigned room)
{
    const char *at = word(c, key, "");
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

static void put(char byte)
{
    if (said_bytes < sizeof(said) - 1)
        said[said_bytes++] = byte;
}

static void put_text(const char *text)
{
    while (*text)
        put(*text++);
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

void say(const char *key, uint64_t value)
{
    put_key(key);
    put_number(value);
}

void say_word(const char *key, const char *value)
{
    put_key(key);
    put_text(value);
}

void say_list(const char *key, const uint32_t *values, unsigned count)
{
    put_key(key);
    for (unsigned i = 0; i < count; i++) {
        if (i)
            put(',');
        put_number(values[i]);
    }
}

void answer_ok(void)
{
    said_bytes = 0;
    put_text("ok");
}

void answer_error(unsigned error, const char *what)
{
    said_bytes = 0;
    put_text("err");
    say("errno", error);
    say_word("what", what);
}

void answer_end(struct control *control)
{
    struct patience patience = {0};

    put('\n');
    for (unsigned done = 0; done < said_bytes;) {
        size_t at, room = ring_room(&control->to_dom0, PAGES_TO_DOM0 * PAGE_BYTES, &at);
        if (room == 0) {
            wait(control, &patience);
            continue;
        }
        if (room > said_bytes - done)
            room = said_bytes - done;
        memcpy(ring_bytes(control, PAGES_TO_DOMU) + at, said + done, room);
        ring_produce(&control->to_dom0, room);
        done += (unsigned)room;
    }
}
