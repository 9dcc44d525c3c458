/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's event channels need of the rest of QEMU, and the way of a hypercall into them.
 *
 * hypercalls.h is made by the build: the functions of target/i386/kvm/xen-emu.c that take a
 * hypercall's argument from the guest and hand it on.
 */
#include "qemu.h"

#include "emulation.h"

#include <poll.h>

#include "xen_evtchn.h"
#include "xen_overlay.h"

enum xen_mode xen_mode = XEN_EMULATE;
uint32_t xen_domid = 1;
struct evtchn_backend_ops *xen_evtchn_ops;

static X86CPU cpus[EMULATED_VCPUS];
static void *shinfo;
static uint64_t nothing_there; /* an address of the guest at which nothing is mapped */
static size_t state_bytes;

void type_register_static(const TypeInfo *info)
{
    state_bytes = info->instance_size;
}

void *sysbus_create_simple(const char *type, int address, void *irq)
{
    (void)type, (void)address, (void)irq;
    return calloc(1, state_bytes);
}

CPUState *qemu_get_cpu(int number)
{
    return number >= 0 && number < EMULATED_VCPUS ? &cpus[number].parent : NULL;
}

void *xen_overlay_get_shinfo_ptr(void)
{
    return shinfo;
}

bool xen_is_long_mode(void)
{
    return true;
}

void kvm_xen_inject_vcpu_callback_vector(uint32_t vcpu, int type)
{
    (void)vcpu, (void)type; /* the bare guest takes no interrupts */
}

static int kvm_copy_from_gva(CPUState *cs, uint64_t address, void *buffer, size_t bytes)
{
    (void)cs;
    if (address == nothing_there)
        return -EFAULT;
    memcpy(buffer, (const void *)(uintptr_t)(address & ~READ_ONLY), bytes);
    return 0;
}

static int kvm_copy_to_gva(CPUState *cs, uint64_t address, const void *buffer, size_t bytes)
{
    (void)cs;
    if (address == nothing_there || address & READ_ONLY)
        return -EFAULT;
    memcpy((void *)(uintptr_t)address, buffer, bytes);
    return 0;
}

static int schedop_shutdown(CPUState *cs, uint64_t argument)
{
    (void)cs, (void)argument;
    abort(); /* the bare guest never asks for it */
}

#include "hypercalls.h"

void emulation_start(void *shared_info, void *const vcpu_info[EMULATED_VCPUS])
{
    void (*create)(unsigned gsis, qemu_irq *) = (void *)xen_evtchn_create; /* 8.0's has no argument */

    shinfo = shared_info;
    for (unsigned i = 0; i < EMULATED_VCPUS; i++) {
        cpus[i].parent.number = i;
        cpus[i].env.xen_vcpu_info_hva = vcpu_info[i];
    }
    create(0, NULL);
}

/* --- QEMU's own ends: a handle of its backends has one port --- */

static struct xenevtchn_handle *handles[EVTCHN_2L_NR_CHANNELS];

static struct xenevtchn_handle *handle(uint32_t port)
{
    return port < EVTCHN_2L_NR_CHANNELS ? handles[port] : NULL;
}

int emulation_dom0_bind(uint32_t guest_port)
{
    struct xenevtchn_handle *made = xen_evtchn_ops->open();
    int port = xen_evtchn_ops->bind_interdomain(made, xen_domid, guest_port);

    if (port < 0)
        xen_evtchn_ops->close(made);
    else
        handles[port] = made;
    return port;
}

int emulation_dom0_send(uint32_t port)
{
    return handle(port) ? xen_evtchn_ops->notify(handle(port), port) : -EINVAL;
}

int emulation_dom0_close(uint32_t port)
{
    struct xenevtchn_handle *open = handle(port);

    if (!open)
        return -EINVAL;
    handles[port] = NULL;
    return xen_evtchn_ops->close(open);
}

int emulation_dom0_take(uint32_t port)
{
    struct pollfd events = {.events = POLLIN};

    if (!handle(port))
        return -EINVAL;
    events.fd = xen_evtchn_ops->get_fd(handle(port));
    if (poll(&events, 1, 0) != 1)
        return 0; /* to ask for an event where there is none would wait for one */
    return xen_evtchn_ops->pending(handle(port)) == (int)port;
}

int64_t emulation_hypercall(unsigned vcpu, unsigned number, uint64_t a, uint64_t b,
                            uint64_t unmapped)
{
    struct kvm_xen_exit exit = {0};
    bool known = false;

    nothing_there = unmapped;
    if (number == __HYPERVISOR_event_channel_op)
        known = kvm_xen_hcall_evtchn_op(&exit, &cpus[vcpu], (int)a, b);
    else if (number == __HYPERVISOR_sched_op)
        known = kvm_xen_hcall_sched_op(&exit, &cpus[vcpu], (int)a, b);
    /* kvm_xen_handle_exit() answers so for a hypercall that it does not know. */
    return known ? (int64_t)exit.u.hcall.result : -ENOSYS;
}
