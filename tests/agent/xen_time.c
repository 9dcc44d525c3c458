/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prints what Xen's time is by a count of the TSC that is ahead of ours, and by one that is behind. */
#include <stdio.h>

#include "cpu.h"

/* What guests/bare/cpu-x86_64.c links to. */
char hypercall_page[1], top_table[1], second_stack_top[1], second_vcpu_entry[1];

int main(void)
{
    static const uint64_t then = 5000000000, ns_of_a_tick = 1u << 31; /* half a ns, in 2^-32 ns */
    struct vcpu_info info = {.time = {2, 0, then, ns_of_a_tick}};
    uint64_t ahead, behind;

    info.time[1] = ticks() + 1000000000;
    if (!cpu_xen_time(&info, &ahead))
        return 1;
    info.time[1] = ticks() - 2000000;
    if (!cpu_xen_time(&info, &behind))
        return 1;
    printf("%llu %llu\n", (unsigned long long)ahead, (unsigned long long)behind);
    info.time[0] = 0;
    return cpu_xen_time(&info, &ahead); /* Xen has written nothing yet */
}
