/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "platform.h"

const struct platform *platform(void)
{
    return &hvm;
}
