// In and out of EFI: what efi.rs cannot say.

.section .text.efi, "ax"

// The application's entry point (UEFI §2.3.6): x0 our handle, x1 the system table, MMU
// on, on the firmware's stack. It comes back only with an error.
.global efi_entry
efi_entry:
    stp     x29, x30, [sp, #-48]!
    mov     x29, sp
    stp     x19, x20, [sp, #16]
    str     x21, [sp, #32]
    mov     x19, x0
    mov     x20, x1
    adrp    x21, image_base
    bl      relocate
    mov     x0, x19
    mov     x1, x20
    bl      {boot}
    ldr     x21, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #48
    ret

// Goes on in the copy of the image at x0 as if a boot loader had just jumped there,
// with the tree from x1 to x2. What is read with the caches off is in memory by then:
// the copy, the tree, and these instructions.
.global efi_leave
efi_leave:
    msr     daifset, #0b1111
    mov     x19, x0
    mov     x20, x1
    mov     x0, x1
    mov     x1, x2
    bl      clean_invalidate
    adrp    x0, image_base
    adrp    x1, rodata_start
    bl      clean_invalidate
    adrp    x1, bss_start
    add     x1, x1, :lo12:bss_start
    adrp    x0, image_base
    sub     x1, x1, x0
    mov     x0, x19
    add     x1, x1, x19
    bl      clean_invalidate
    mov     x1, #0x1005             // I, C, M
    mrs     x0, CurrentEL
    cmp     x0, #2 << 2
    b.ne    1f
    mrs     x0, sctlr_el2
    bic     x0, x0, x1
    msr     sctlr_el2, x0
    b       2f
1:  mrs     x0, sctlr_el1
    bic     x0, x0, x1
    msr     sctlr_el1, x0
2:  isb
    ic      iallu
    dsb     sy
    isb
    mov     x0, x20
    mov     x1, xzr
    mov     x2, xzr
    mov     x3, xzr
    br      x19
