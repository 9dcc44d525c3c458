/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of Xen's interface that the agent and the bare guest use: numbers and layouts, from
 * xen/include/public.  All layouts are those of 64-bit little-endian guests.
 */
#ifndef AGENT_XEN_ABI_H
#define AGENT_XEN_ABI_H

#include <stdint.h>

#define DOMID_SELF 0x7ff0u

enum hypercall {
    HYPERCALL_MEMORY_OP = 12,
    HYPERCALL_UPDATE_VA_MAPPING = 14,
    HYPERCALL_XEN_VERSION = 17,
    HYPERCALL_GRANT_TABLE_OP = 20,
    HYPERCALL_VCPU_OP = 24,
    HYPERCALL_SCHED_OP = 29,
    HYPERCALL_EVENT_CHANNEL_OP = 32,
    HYPERCALL_PHYSDEV_OP = 33,
    HYPERCALL_HVM_OP = 34,
    HYPERCALL_SYSCTL = 35,
    HYPERCALL_DOMCTL = 36,
};

#define XENMEM_ADD_TO_PHYSMAP 7
#define XENMAPSPACE_SHARED_INFO 0
#define XENMAPSPACE_GRANT_TABLE 1
#define UVMF_INVLPG 2
#define XENVER_VERSION 0
#define GNTTABOP_SETUP_TABLE 2
#define VCPUOP_INITIALISE 0
#define VCPUOP_UP 1
#define VCPUOP_STOP_PERIODIC_TIMER 7
#define VCPUOP_REGISTER_VCPU_INFO 10
#define SCHEDOP_YIELD 0
#define SCHEDOP_POLL 3
#define PHYSDEVOP_IRQ_UNMASK_NOTIFY 4
#define HVMOP_GET_PARAM 1
#define HVMOP_GUEST_REQUEST_VM_EVENT 24
#define HVM_PARAM_STORE_PFN 1
#define HVM_PARAM_STORE_EVTCHN 2
#define SYSCTL_DEBUG_KEYS 7
#define DOMCTL_VM_EVENT 56
#define DOMCTL_MONITOR 77
#define VM_EVENT_MONITOR 2 /* of vm_event: its mode */
#define MONITOR_GUEST_REQUEST 4 /* of monitor: its event */

enum {
    EVTCHNOP_BIND_INTERDOMAIN = 0,
    EVTCHNOP_BIND_VIRQ = 1,
    EVTCHNOP_BIND_PIRQ = 2,
    EVTCHNOP_CLOSE = 3,
    EVTCHNOP_SEND = 4,
    EVTCHNOP_STATUS = 5,
    EVTCHNOP_ALLOC_UNBOUND = 6,
    EVTCHNOP_BIND_IPI = 7,
    EVTCHNOP_BIND_VCPU = 8,
    EVTCHNOP_UNMASK = 9,
    EVTCHNOP_RESET = 10,
    EVTCHNOP_INIT_CONTROL = 11,
    EVTCHNOP_EXPAND_ARRAY = 12,
    EVTCHNOP_SET_PRIORITY = 13,
    EVTCHNOP_RESET_CONT = 14,
    EVTCHNOP_FIRST_UNKNOWN = 15,
};

enum {
    EVTCHNSTAT_CLOSED = 0,
    EVTCHNSTAT_UNBOUND = 1,
    EVTCHNSTAT_INTERDOMAIN = 2,
    EVTCHNSTAT_PIRQ = 3,
    EVTCHNSTAT_VIRQ = 4,
    EVTCHNSTAT_IPI = 5,
};

/* Arguments of hypercalls; the fields after "out" are written by Xen. */
union hypercall_arg {
    struct {
        uint16_t owner;
        uint16_t remote;
        uint32_t port; /* out */
    } alloc_unbound;
    struct {
        uint16_t remote;
        uint32_t remote_port;
        uint32_t port; /* out */
    } bind_interdomain;
    struct {
        uint32_t virq;
        uint32_t vcpu;
        uint32_t port; /* out */
    } bind_virq;
    struct {
        uint32_t vcpu;
        uint32_t port; /* out */
    } bind_ipi;
    struct {
        uint32_t pirq;
        uint32_t flags;
        uint32_t port; /* out */
    } bind_pirq;
    struct {
        uint16_t domid;
    } reset;
    struct {
        uint64_t frame;
        uint32_t offset;
        uint32_t vcpu;
        uint8_t link_bits; /* out */
    } init_control;
    struct {
        uint64_t frame;
    } expand_array;
    struct {
        uint32_t port;
    } one_port; /* close, send, unmask */
    struct {
        uint16_t owner;
        uint32_t port;
        uint32_t state; /* out, with all that follow */
        uint32_t vcpu;
        union {
            struct {
                uint16_t remote;
            } unbound;
            struct {
                uint16_t remote;
                uint32_t port;
            } interdomain;
            uint32_t irq; /* pirq or virq */
        } u;
    } status;
    struct {
        uint32_t port;
        uint32_t value; /* vCPU or priority */
    } port_value;
    struct {
        uint64_t ports; /* address of an array of uint32_t */
        uint32_t count;
        uint64_t timeout; /* absolute, ns of Xen's system time */
    } poll;
    struct {
        uint32_t command;
        uint32_t version; /* of the interface: another one in each release */
        uint64_t keys; /* address of characters */
        uint32_t count;
        uint8_t rest[116];
        char key;
    } debug_keys; /* sysctl */
    struct {
        uint32_t command;
        uint32_t version; /* of the interface: another one in each release */
        uint16_t domain;
        uint16_t pad[3];
        union {
            struct {
                uint32_t op; /* 0: enable, 1: disable */
                uint32_t mode;
                uint32_t port; /* out */
            } vm_event;
            struct {
                uint32_t op;
                uint32_t event;
                uint8_t sync;
                uint8_t user;
            } monitor;
            uint8_t rest[128];
        } u;
    } domctl;
};

/* Messages of xenstore's protocol. */
enum { XS_READ = 2, XS_WRITE = 11, XS_ERROR = 16 };
struct xenstore_header {
    uint32_t type;
    uint32_t request;
    uint32_t transaction;
    uint32_t length;
};

#endif
