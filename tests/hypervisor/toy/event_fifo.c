/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The toy's FIFO queues: the lock of queue 2 of d1v0 is held by CPU 6. */
#include "types.h"

struct evtchn_fifo_vcpu fifo10 = { 0, { [2] = { 0, 0, 2, { { 0x00090008 }, 0, { 6 } } } } };
