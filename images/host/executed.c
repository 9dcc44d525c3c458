/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plugin for QEMU's TCG: notes which instructions of some address ranges have been executed.
 *
 * Its argument "map=FILE" names a file that it maps, so that what was noted is there however QEMU
 * ends.  The file begins with MAGIC, the number of ranges, and for each range its first address and
 * the first one behind it (64 bits each, as this machine has them; ranges ascend).  Then comes one
 * byte for each address of the ranges: 1 if an instruction that begins there was executed.
 *
 * Only instructions in the ranges get a call; all other code runs as without the plugin.
 *
 * A guest can have code of its own at the same (virtual) addresses.  Xen is one piece of memory, and
 * runs before all guests: what is translated first says where in the emulator's memory that piece
 * is, and what lies elsewhere is not Xen's.
 *
 * QEMU ships no header with its package; what is used of the interface is declared here.  Source:
 * QEMU's documentation, "QEMU TCG Plugins".
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "EVTCHNX1"

struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*call)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            void (*call)(unsigned int, void *), int flags,
                                            void *data);

/* The oldest interface that QEMU still takes: 1 up to QEMU 8, 2 since QEMU 9. */
__attribute__((visibility("default"))) int qemu_plugin_version = INTERFACE;

struct range {
    uint64_t begin, end;
};

struct header {
    char magic[8];
    uint64_t count;
    struct range ranges[];
};

static const struct header *header;
static volatile uint8_t *noted; /* one byte for each address of the ranges */
static uint64_t distance; /* from Xen's addresses to the emulator's; 0: not yet known */

static void executed(unsigned int vcpu, void *byte)
{
    (void)vcpu;
    *(volatile uint8_t *)byte = 1;
}

/* Return the byte for address, or NULL if it is in no range. */
static void *byte_for(uint64_t address)
{
    uint64_t before = 0;

    for (uint64_t i = 0; i < header->count && header->ranges[i].begin <= address; i++) {
        if (address < header->ranges[i].end)
            return (void *)(noted + before + (address - header->ranges[i].begin));
        before += header->ranges[i].end - header->ranges[i].begin;
    }
    return NULL;
}

/* Return whether insn, which is at address, lies where Xen does. */
static int is_xens(const struct qemu_plugin_insn *insn, uint64_t address)
{
    uint64_t host = (uintptr_t)qemu_plugin_insn_haddr(insn);
    uint64_t known = 0;

    if (!host)
        return 0; /* not in memory */
    return __atomic_compare_exchange_n(&distance, &known, host - address, 0, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED) ||
           known == host - address;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    size_t count = qemu_plugin_tb_n_insns(tb);

    (void)id;
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        void *byte = byte_for(address);

        if (byte && is_xens(insn, address))
            qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, NO_REGISTERS, byte);
    }
}

/* Map the file; return whether it is what is said above. */
static int map(const char *path)
{
    struct stat about;
    uint64_t size = 0;
    void *at;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) < 0 || (size_t)about.st_size < sizeof(*header))
        return 0;
    at = mmap(NULL, about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return 0;
    header = at;
    if (memcmp(header->magic, MAGIC, sizeof(header->magic)) ||
        header->count > (about.st_size - sizeof(*header)) / sizeof(struct range))
        return 0;
    for (uint64_t i = 0; i < header->count; i++)
        size += header->ranges[i].end - header->ranges[i].begin;
    noted = (uint8_t *)&header->ranges[header->count];
    return size == about.st_size - sizeof(*header) - header->count * sizeof(struct range);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info,
                                                               int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "map=", 4) || !map(argv[0] + 4)) {
        fprintf(stderr, "executed: the argument must be map=FILE, with a file for this plugin\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
