/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of QEMU as hw/i386/kvm/xen_evtchn.c is compiled with.  The build makes each header that
 * it includes, other than those of Xen's interface, a file that includes this one: so it does not
 * matter here under which names a version of QEMU has them.
 *
 * Types and functions have QEMU's names.  What an emulation without a machine never comes to (MSIs,
 * interrupt lines, migration, the monitor) is only declared as far as the compiler asks.
 */
#ifndef EMULATION_QEMU_H
#define EMULATION_QEMU_H

#include <assert.h>
#include <errno.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- Xen's interface, as QEMU has it --- */

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include "hw/xen/interface/xen.h"

#include "hw/xen/interface/event_channel.h"
#include "hw/xen/interface/hvm/params.h"
#include "hw/xen/interface/memory.h"
#include "hw/xen/interface/physdev.h"
#include "hw/xen/interface/sched.h"

#define DOMID_QEMU 0
enum xen_mode { XEN_DISABLED, XEN_ATTACH, XEN_EMULATE };
extern enum xen_mode xen_mode;
extern uint32_t xen_domid;

/* --- macros of the compiler, of glib and of lists --- */

#define BITS_PER_BYTE 8
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define qemu_build_assert(x) _Static_assert(x, #x)
#define qatomic_fetch_or(p, v) __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)
#define qatomic_fetch_and(p, v) __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST)
#define g_new0(type, n) ((type *)calloc(n, sizeof(type)))
#define g_free free
#define g_strdup strdup
#define test_bit(n, p) (((const uint8_t *)(p))[(n) / 8] >> ((n) % 8) & 1)
#define QAPI_LIST_APPEND(tail, v) ((tail) = (tail), (void)(v))

/* --- locks: there is one thread, so a lock that is taken twice was never released --- */

typedef struct {
    bool held;
} QemuMutex;

static inline void qemu_mutex_init(QemuMutex *m)
{
    m->held = false;
}

static inline void qemu_mutex_lock(QemuMutex *m)
{
    assert(!m->held);
    m->held = true;
}

static inline void qemu_mutex_unlock(QemuMutex *m)
{
    assert(m->held);
    m->held = false;
}

static inline QemuMutex *qemu_lock_guard(QemuMutex *m)
{
    qemu_mutex_lock(m);
    return m;
}

static inline void qemu_end_guard(QemuMutex **m)
{
    qemu_mutex_unlock(*m);
}

#define QEMU_LOCK_GUARD(m) \
    QemuMutex *guard __attribute__((cleanup(qemu_end_guard), unused)) = qemu_lock_guard(m)
/* The big lock of QEMU: whether it is held matters only to what calls into devices. */
#define BQL_LOCK_GUARD() ((void)0)
#define QEMU_IOTHREAD_LOCK_GUARD() ((void)0)
#define bql_locked() true
#define qemu_mutex_iothread_locked() true

/* --- CPUs --- */

#define XEN_NR_VIRQS 24

typedef struct CPUState {
    unsigned number;
} CPUState;
typedef struct {
    uint16_t xen_virq[XEN_NR_VIRQS];
    void *xen_vcpu_info_hva;
} CPUX86State;
typedef struct {
    CPUState parent; /* the first: see X86_CPU() */
    CPUX86State env;
} X86CPU;

#define CPU(cpu) (&(cpu)->parent)
#define X86_CPU(cs) ((X86CPU *)(cs))
#define kvm_arch_vcpu_id(cs) ((cs)->number)
CPUState *qemu_get_cpu(int number);

/* --- KVM: it has none of the features that would have it do anything of this itself --- */

#define kvm_state NULL
#define kvm_xen_has_cap(cap) false
#define kvm_vm_ioctl(state, ...) (-ENOSYS)
#define kvm_xen_has_vcpu_callback_vector() false
#define kvm_xen_set_callback_asserted() ((void)0)
#define kvm_xen_get_evtchn_max_pirq() 256 /* QEMU's default */
#define kvm_update_msi_routes_all(...) ((void)0)
#define async_run_on_cpu(...) ((void)0)
void kvm_xen_inject_vcpu_callback_vector(uint32_t vcpu, int type);
int kvm_xen_set_vcpu_virq(uint32_t vcpu, uint16_t virq, uint16_t port);
void *kvm_xen_get_vcpu_info_hva(uint32_t vcpu);

/* --- the machine and its devices --- */

typedef struct MemoryRegion MemoryRegion;
typedef struct QEMUBH QEMUBH;
typedef struct IRQState *qemu_irq;
typedef struct {
    void *unused;
} SysBusDevice;
typedef struct {
    const void *vmsd;
} DeviceClass, ObjectClass;
typedef struct PCIBus PCIBus;
typedef struct {
    PCIBus *bus, *pcibus; /* a version of QEMU has one or the other */
} PCMachineState;
typedef struct PCIDevice PCIDevice;
typedef struct {
    enum { PCI_INTX_ENABLED } mode;
    int irq;
} PCIINTxRoute;
typedef struct {
    const char *name, *parent;
    size_t instance_size;
    void *class_init; /* its type is not the same in all versions */
} TypeInfo;

#define IOAPIC_NUM_PINS 24
#define TYPE_SYS_BUS_DEVICE "sys-bus-device"
#define SYS_BUS_DEVICE(s) (s)
#define DEVICE(d) (d)
#define DEVICE_CLASS(c) (c)
#define PC_MACHINE(m) ((PCMachineState *)(m))
#define OBJECT_DECLARE_SIMPLE_TYPE(type, NAME) \
    typedef struct type type;                  \
    static inline type *NAME(void *object)     \
    {                                          \
        return object;                         \
    }
#define type_init(function)                                          \
    __attribute__((constructor)) static void call_##function(void)   \
    {                                                                \
        function();                                                  \
    }
void type_register_static(const TypeInfo *info);
void *sysbus_create_simple(const char *type, int address, void *irq);
#define sysbus_init_irq(...) ((void)0)
#define sysbus_connect_irq(...) ((void)0)
#define qemu_set_irq(...) ((void)0)
#define aio_bh_new(context, function, opaque) ((void)(function), (void)(opaque), NULL)
#define qemu_get_aio_context() NULL
#define qemu_bh_schedule(bh) ((void)0)
#define qemu_bh_new(function, opaque) ((void)(function), (void)(opaque), NULL)
#define qdev_get_machine() NULL
#define qdev_get_dev_path(d) NULL
#define pci_find_device(...) NULL
#define pci_device_route_intx_to_irq(...) ((PCIINTxRoute){0})
#define msi_set_mask(...) ((void)0)
#define msix_set_mask(...) ((void)0)

struct xenevtchn_handle;
struct evtchn_backend_ops {
    struct xenevtchn_handle *(*open)(void);
    int (*bind_interdomain)(struct xenevtchn_handle *, uint32_t domid, evtchn_port_t port);
    int (*unbind)(struct xenevtchn_handle *, evtchn_port_t port);
    int (*close)(struct xenevtchn_handle *);
    int (*get_fd)(struct xenevtchn_handle *);
    int (*notify)(struct xenevtchn_handle *, evtchn_port_t port);
    int (*unmask)(struct xenevtchn_handle *, evtchn_port_t port);
    int (*pending)(struct xenevtchn_handle *);
};
extern struct evtchn_backend_ops *xen_evtchn_ops;

/* --- migration --- */

typedef struct {
    int unused;
} VMStateField;
typedef struct {
    const char *name;
    int version_id, minimum_version_id;
    bool (*needed)(void *);
    int (*pre_load)(void *);
    int (*post_load)(void *, int version);
    const VMStateField *fields;
} VMStateDescription;

#define VMSTATE_UINT16(...) {0}
#define VMSTATE_UINT32(...) {0}
#define VMSTATE_UINT64(...) {0}
#define VMSTATE_UINT16_ARRAY(...) {0}
#define VMSTATE_VARRAY_UINT16_ALLOC(...) {0}
#define VMSTATE_STRUCT_VARRAY_UINT32(name, state, count, version, vmsd, type) {0 * sizeof(vmsd)}
#define VMSTATE_END_OF_LIST() {0}

/* --- the monitor, messages --- */

typedef struct Error Error;
typedef struct Monitor Monitor, MonitorHMP; /* a later version of QEMU has two types of it */
typedef struct QDict QDict;
enum {
    EVTCHN_PORT_TYPE_CLOSED,
    EVTCHN_PORT_TYPE_UNBOUND,
    EVTCHN_PORT_TYPE_INTERDOMAIN,
    EVTCHN_PORT_TYPE_PIRQ,
    EVTCHN_PORT_TYPE_VIRQ,
    EVTCHN_PORT_TYPE_IPI,
};
typedef struct {
    int port, vcpu, type, target;
    char *remote_domain;
    bool pending, masked;
} EvtchnInfo;
typedef struct EvtchnInfoList EvtchnInfoList;
struct EvtchnInfoList {
    EvtchnInfoList *next;
    EvtchnInfo *value;
};

#define MONITOR(hmp) (hmp)
#define EvtchnPortType_str(type) ""
#define qapi_free_EvtchnInfoList(list) ((void)(list))
#define qdict_get_int(dict, key) ((void)(dict), 0)
#define monitor_printf(monitor, ...) ((void)(monitor))
#define hmp_handle_error(monitor, error) ((void)(monitor), (void)(error))
#define error_setg(error, ...) ((void)(error))
#define error_report(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define LOG_GUEST_ERROR 0
#define qemu_log_mask(mask, ...) ((void)0)
#define trace_kvm_xen_bind_pirq(...) ((void)0)
#define trace_kvm_xen_unmask_pirq(...) ((void)0)
#define trace_kvm_xen_map_pirq(...) ((void)0)
#define trace_kvm_xen_unmap_pirq(...) ((void)0)
#define trace_kvm_xen_get_free_pirq(...) ((void)0)

#endif
