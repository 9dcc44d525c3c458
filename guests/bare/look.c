/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is seen after an operation: of many ports, and of every vCPU, in one answer. */
#include "ops.h"

#define MAX_LOOKS 32u
#define BITS_PER_PORT 3u
#define WORDS_PER_STATUS 5u

static void look_at_bits(struct job *job)
{
    uint32_t ports[MAX_LOOKS], bits[MAX_LOOKS * BITS_PER_PORT];
    unsigned count = numbers(job->command, "ports", ports, MAX_LOOKS);

    for (unsigned i = 0; i < count; i++) {
        struct port_bits found = events_port_bits(ports[i]);
        uint32_t *at = bits + i * BITS_PER_PORT;
        at[0] = found.pending;
        at[1] = found.masked;
        at[2] = found.linked;
    }
    answer_numbers("bits", bits, count * BITS_PER_PORT);
}

static void look_at_vcpus(void)
{
    answer_number("upcall", events_upcall(0));
    for (unsigned vcpu = 1; vcpu < VCPUS; vcpu++)
        answer_more(events_upcall(vcpu));
    answer_number("selectors", events_selectors(0));
    for (unsigned vcpu = 1; vcpu < VCPUS; vcpu++)
        answer_more(events_selectors(vcpu));
    answer_number("ready", events_ready(0));
    for (unsigned vcpu = 1; vcpu < VCPUS; vcpu++)
        answer_more(events_ready(vcpu));
}

/* Each is asked of Xen; an error number and zeros where Xen does not tell. */
static void look_at_status(struct job *job)
{
    uint32_t ports[MAX_LOOKS], words[MAX_LOOKS * WORDS_PER_STATUS] = {0};
    unsigned count = numbers(job->command, "status", ports, MAX_LOOKS);

    for (unsigned i = 0; i < count; i++) {
        uint32_t *at = words + i * WORDS_PER_STATUS;
        get_status(job, DOMID_SELF, ports[i]);
        at[0] = (uint32_t)-job->result;
        if (job->result < 0)
            continue;
        at[1] = job->status.state;
        at[2] = job->status.vcpu;
        at[3] = job->status.remote;
        at[4] = job->status.detail;
    }
    answer_numbers("status", words, count * WORDS_PER_STATUS);
}

void look(struct job *job)
{
    look_at_bits(job); /* first what is in memory: no hypercall has come between */
    look_at_vcpus();
    look_at_status(job);
    job->result = 0;
}
