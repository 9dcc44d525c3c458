/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programmes: thousands of operations that the vCPUs make without a word from outside, and what
 * each has come to (docs/agent-protocol.md, "Programmes").
 */
#ifndef BARE_PROGRAMME_H
#define BARE_PROGRAMME_H

#include <stdbool.h>
#include <stdint.h>

#include "../agent/steps.h"
#include "cpu.h"

/* The steps of that vCPU, to be filled in by the caller. */
struct step *programme_steps(unsigned vcpu);

/*
 * Have each vCPU make its first counts[vcpu] steps, both at once if both have any.  Returns the
 * address of what they have seen, vCPU 0's first: struct seen, or with `timed` struct timed_seen.
 * `number` is found in memory with how far they have come, should they not return.
 *
 * With `with_dom0` vCPU 0 alone makes steps, and meets the agent in dom0, which is told the same
 * number.  NULL if that does not come.
 */
const void *programme_run(uint64_t number, const unsigned counts[VCPUS], bool timed,
                          bool with_dom0);

#endif
