/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of either vCPU: commands come to the first one. */
#ifndef BARE_SECOND_VCPU_H
#define BARE_SECOND_VCPU_H

#include "ops.h"

/* Have the vCPU of `job` make its operation; return when it has. */
void run_job(struct job *job);

#endif
