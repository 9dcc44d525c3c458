/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Orders in which threads may be late to write down whose port it is; exits 0 if none is lost. */
#include "ports.h"

#include <stdio.h>

#define PORT 20

static int failed;

static void expect(const char *when, uint8_t owner, uint16_t handles)
{
    if (port_owner(PORT) == owner && port_handles(PORT) == handles)
        return;
    printf("%s: owner %d, handles 0x%x\n", when, port_owner(PORT), port_handles(PORT));
    failed = 1;
}

int main(void)
{
    expect("at the start", 0, 0);
    port_add_handle(-1, 3);
    port_add_raw(MAX_PORTS);
    expect("after errors", 0, 0);

    /* Handle 1 got the port and was late; another thread gave it back, and handle 2 has it now. */
    if (port_remove_handle(PORT, 1))
        failed = 1;
    port_add_handle(PORT, 2);
    port_add_handle(PORT, 1);
    expect("a late handle", OWNED_DEVICE | EVER_OWNED, 1 << 1 | 1 << 2);
    if (!port_remove_handle(PORT, 1) || port_remove_handle(PORT, 1))
        failed = 1;
    expect("the late handle said no", OWNED_DEVICE | EVER_OWNED, 1 << 2);

    /* The same with a raw port. */
    port_add_raw(PORT);
    expect("a late raw answer", OWNED_RAW | OWNED_DEVICE | EVER_OWNED, 1 << 2);
    if (!port_remove_raw(PORT) || !port_remove_handle(PORT, 2))
        failed = 1;
    expect("closed", EVER_OWNED, 0);

    port_add_handle(PORT, HANDLES - 1);
    forget_closed_ports();
    expect("still open", OWNED_DEVICE | EVER_OWNED, 1 << (HANDLES - 1));
    port_remove_handle(PORT, HANDLES - 1);
    forget_closed_ports();
    expect("forgotten", 0, 0);
    return failed;
}
