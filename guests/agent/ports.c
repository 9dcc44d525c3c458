/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ports.h"

static uint8_t owned[MAX_PORTS]; /* OWNED_RAW and EVER_OWNED */
static uint16_t handles[MAX_PORTS];

uint8_t port_owner(uint32_t port)
{
    if (port >= MAX_PORTS)
        return 0;
    return __atomic_load_n(&owned[port], __ATOMIC_ACQUIRE) |
           (port_handles(port) ? OWNED_DEVICE : 0);
}

uint16_t port_handles(uint32_t port)
{
    return port < MAX_PORTS ? __atomic_load_n(&handles[port], __ATOMIC_ACQUIRE) : 0;
}

void forget_closed_ports(void)
{
    for (uint32_t port = 0; port < MAX_PORTS; port++)
        if (port_owner(port) == EVER_OWNED)
            owned[port] = 0;
}

void port_add_raw(int port)
{
    if (port >= 0 && (unsigned)port < MAX_PORTS)
        __atomic_fetch_or(&owned[port], OWNED_RAW | EVER_OWNED, __ATOMIC_ACQ_REL);
}

void port_add_handle(int port, unsigned handle)
{
    if (port < 0 || (unsigned)port >= MAX_PORTS)
        return;
    __atomic_fetch_or(&owned[port], EVER_OWNED, __ATOMIC_ACQ_REL);
    __atomic_fetch_or(&handles[port], (uint16_t)(1u << handle), __ATOMIC_ACQ_REL);
}

bool port_remove_raw(uint32_t port)
{
    return port < MAX_PORTS &&
           (__atomic_fetch_and(&owned[port], (uint8_t)~OWNED_RAW, __ATOMIC_ACQ_REL) & OWNED_RAW);
}

bool port_remove_handle(uint32_t port, unsigned handle)
{
    uint16_t bit = (uint16_t)(1u << handle);

    return port < MAX_PORTS &&
           (__atomic_fetch_and(&handles[port], (uint16_t)~bit, __ATOMIC_ACQ_REL) & bit);
}
