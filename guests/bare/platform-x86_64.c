/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "platform.h"

#include "start_info.h"

const struct platform *platform(void)
{
    return start_info ? &pv : &hvm;
}
