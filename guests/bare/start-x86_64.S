/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PVH guest begins in 32-bit protected mode, without paging.  Map the first 4 GiB one to one,
 * and the first GiB once more, read-only, at 4 GiB; then go to 64-bit mode and to C.
 */
#define PRESENT 1
#define WRITABLE 2
#define LARGE 0x80

        .section .note.Xen, "a", @note
        .long 4, 4, 18                  /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .long entry

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
        .globl hypercall_page, other_stack_top
hypercall_page:
        .skip 4096
        .skip 16384
stack_top:
        .skip 16384
other_stack_top:

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
        or      $0x80010001, %eax       /* paging; Xen's writes honour read-only pages */
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

        .globl other_entry
other_entry:
        call    other_main
        jmp     stop

        .section .note.GNU-stack, "", @progbits
