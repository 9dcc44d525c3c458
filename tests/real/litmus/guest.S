/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bare guest for QEMU's machine "virt": two CPUs, each of which waits for the address of a
 * thread of a litmus test in its mailbox, and calls it.  The threads are assembled behind this.
 *
 * Each thread is given x1 = &x, x3 = &y, w5 = 1, w6 = 2, and 0 in the other registers.  A debugger
 * writes the mailboxes, and reads the registers at `back`.
 */
    .arch armv8.6-a
    .global _start, mailbox, back, x, y

    .text
_start:
    movz w0, #0x0003            /* PSCI's CPU_ON: which CPU, where it begins, what is in its x0 */
    movk w0, #0xc400, lsl #16
    mov x1, #1
    adr x2, second
    mov x3, #1
    hvc #0
    mov x0, #0
second:                         /* x0: the number of the CPU */
    adr x20, mailbox
    add x20, x20, x0, lsl #3
wait:
    ldr x21, [x20]
    cbz x21, wait
    str xzr, [x20]
    mov x0, #0
    adr x1, x
    mov x2, #0
    adr x3, y
    mov x4, #0
    mov w5, #1
    mov w6, #2
    mov x7, #0
    blr x21
back:
    b wait

    .balign 64
mailbox:
    .quad 0, 0
    .balign 64
x:  .word 0
    .balign 64
y:  .word 0
    .balign 64
