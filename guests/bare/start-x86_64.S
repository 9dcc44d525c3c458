/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PVH guest begins in 32-bit protected mode without paging; so does an HVM guest, whose device
 * model loads it as a Multiboot kernel.  Map the first 4 GiB one to one, and the first GiB a second
 * time, read-only, at 4 GiB; then switch to 64-bit mode and call main().  A PV guest begins in
 * 64-bit mode, with what is loaded mapped one to one.
 */
#define PRESENT 1
#define WRITABLE 2
#define LARGE 0x80

#define MULTIBOOT 0x1badb002
#define HAS_ADDRESSES 0x10000

        .section .head, "a"
head:   .long   MULTIBOOT, HAS_ADDRESSES, -(MULTIBOOT + HAS_ADDRESSES)
        .long   head, first, loaded_end, image_end, entry

        .macro  note number, size, value:vararg
        .long   4, \size, \number
        .asciz  "Xen"
        \value
        .endm

        .section .note.Xen, "a", @note
        note    18, 4, .long entry              /* PHYS32_ENTRY: the entry of a PVH guest */
        note    1, 8, .quad pv_entry            /* ENTRY: that of a PV guest */
        note    2, 8, .quad hypercall_page      /* HYPERCALL_PAGE */
        note    3, 8, .quad 0                   /* VIRT_BASE: our addresses are one to one */
        note    5, 8, .asciz "xen-3.0"          /* XEN_VERSION */
        note    8, 8, .asciz "generic"          /* LOADER */

        .section .data
        .balign 4096
        .globl top_table
top_table:
        .quad pointers + PRESENT + WRITABLE
        .fill 511, 8, 0
pointers:
        .set i, 0
        .rept 4
        .quad directories + i * 4096 + PRESENT + WRITABLE
        .set i, i + 1
        .endr
        .quad read_only_directory + PRESENT + WRITABLE
        .fill 507, 8, 0
directories:
        .set i, 0
        .rept 4 * 512
        .quad (i << 21) + PRESENT + WRITABLE + LARGE
        .set i, i + 1
        .endr
read_only_directory:
        .set i, 0
        .rept 512
        .quad (i << 21) + PRESENT + LARGE
        .set i, i + 1
        .endr

segments:
        .quad 0
        .quad 0x00af9a000000ffff        /* 8: 64-bit code */
        .quad 0x00cf92000000ffff        /* 16: data */
segments_register:
        .word . - segments - 1
        .quad segments

        .section .bss
        .balign 4096
        .globl hypercall_page, second_stack_top
hypercall_page:
        .skip 4096
        .skip 16384
stack_top:
        .skip 16384
second_stack_top:

        .section .text
        .code32
entry:  cld
        mov     %cr4, %eax
        or      $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     $top_table, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER */
        rdmsr
        or      $0x100, %eax            /* long mode */
        wrmsr
        mov     %cr0, %eax
        or      $0x80010001, %eax       /* paging; Xen, too, cannot write to read-only pages */
        mov     %eax, %cr0
        lgdt    segments_register
        ljmp    $8, $entry64
        .code64
entry64:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        lea     stack_top(%rip), %rsp
        call    main
stop:   hlt
        jmp     stop

pv_entry:
        mov     %rsi, start_info(%rip)
        lea     stack_top(%rip), %rsp
        call    main
        jmp     stop

        .globl second_vcpu_entry
second_vcpu_entry:
        call    second_vcpu_main
        jmp     stop

        .section .note.GNU-stack, "", @progbits
