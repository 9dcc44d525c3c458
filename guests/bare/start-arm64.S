/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An arm64 Image: a header, then the code.  Xen starts it at EL1 with the MMU off.  Map the first
 * 4 GiB one to one, and our memory a second time, read-only, at 4 GiB; then call main().
 */
#define BLOCK(where) ((where) | 0x701)  /* normal memory, inner shareable, accessed */
#define READ_ONLY 0x80
#define GIB 0x40000000

        .section .head, "ax"
        b       entry
        .long   0
        .quad   0x80000                 /* where we are loaded, from the start of memory */
        .quad   image_bytes
        .quad   0xa                     /* little endian, pages of 4 KiB */
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0

entry:  msr     daifset, #15
        ldr     x1, =stack_top
        bl      mmu_on
        bl      main
stop:   wfi
        b       stop

        .globl second_vcpu_entry
second_vcpu_entry:
        msr     daifset, #15
        ldr     x1, =second_stack_top
        bl      mmu_on
        bl      second_vcpu_main
        b       stop

/* x1: the stack to use. */
mmu_on: mov     x2, #0xff               /* attributes 0: normal memory, write-back */
        msr     mair_el1, x2
        ldr     x2, =0x200803519        /* 39-bit addresses, 4 KiB, cacheable tables, 40 bits */
        msr     tcr_el1, x2
        ldr     x2, =table
        msr     ttbr0_el1, x2
        isb
        tlbi    vmalle1
        dsb     sy
        mrs     x2, sctlr_el1
        mov     x3, #0x1005             /* MMU, data and instruction caches */
        orr     x2, x2, x3
        msr     sctlr_el1, x2
        isb
        mov     sp, x1
        ret

        .section .data
        .balign 4096
table:  .quad   BLOCK(0), BLOCK(GIB), BLOCK(2 * GIB), BLOCK(3 * GIB)
        .quad   BLOCK(GIB) | READ_ONLY
        .fill   507, 8, 0

        .section .bss
        .balign 16
        .skip   16384
stack_top:
        .skip   16384
second_stack_top:

        .section .note.GNU-stack, "", @progbits
