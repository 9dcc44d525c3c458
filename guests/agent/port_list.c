/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "port_list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hypercall.h"
#include "xen_abi.h"

/* Without the vCPU: Linux may move a port to another one at any time. */
static void print_port(uint32_t port, const union hypercall_arg *arg)
{
    switch (arg->status.state) {
    case EVTCHNSTAT_CLOSED:
        break;
    case EVTCHNSTAT_UNBOUND:
        printf("%u: unbound, for domain %u\n", port, arg->status.u.unbound.remote);
        break;
    case EVTCHNSTAT_INTERDOMAIN:
        printf("%u: to domain %u, port %u\n", port, arg->status.u.interdomain.remote,
               arg->status.u.interdomain.port);
        break;
    case EVTCHNSTAT_PIRQ:
        printf("%u: PIRQ %u\n", port, arg->status.u.irq);
        break;
    case EVTCHNSTAT_VIRQ:
        printf("%u: VIRQ %u\n", port, arg->status.u.irq);
        break;
    case EVTCHNSTAT_IPI:
        printf("%u: IPI\n", port);
        break;
    default:
        printf("%u: state %u\n", port, arg->status.state);
    }
}

int port_list_main(uint16_t domid)
{
    int error = hypercall_open();
    union hypercall_arg *arg = error ? NULL : hypercall_page();

    if (!arg) {
        fprintf(stderr, "agent: cannot ask Xen: %s\n", strerror(error ? -error : ENOMEM));
        return 1;
    }
    for (uint32_t port = 0;; port++) {
        int result;

        memset(arg, 0, sizeof(*arg));
        arg->status.owner = domid;
        arg->status.port = port;
        result = hypercall(HYPERCALL_EVENT_CHANNEL_OP, EVTCHNOP_STATUS, arg);
        if (result == 0)
            print_port(port, arg);
        else if (result == -EACCES)
            printf("%u: Xen's own\n", port);
        else if (result == -EINVAL) /* behind the last one that can be valid */
            return 0;
        else {
            fprintf(stderr, "agent: status of port %u: %s\n", port, strerror(-result));
            return 1;
        }
    }
}
