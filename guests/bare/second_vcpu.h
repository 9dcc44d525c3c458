/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of either vCPU: commands come to the first one. */
#ifndef BARE_SECOND_VCPU_H
#define BARE_SECOND_VCPU_H

#include "ops.h"

/* Have vCPU 1 do `work`; return at once.  second_vcpu_wait() returns when it has done it. */
void second_vcpu_begin(void (*work)(void *argument), void *argument);
void second_vcpu_wait(void);

/* Have the vCPU of `job` make its operation; return when it has. */
void run_job(struct job *job);

#endif
