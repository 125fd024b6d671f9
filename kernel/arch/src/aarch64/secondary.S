// From where PSCI's CPU_ON brings a CPU to the first line of Rust (Arm DEN 0022 §6.4):
// EL1 or EL2, whichever the first CPU was entered at, MMU off, the argument in x0. That
// is the address of a `Start` in cores.rs, which was cleaned from the caches; nothing
// else may be read before they are on.

.section .text.secondary, "ax"
.global secondary
secondary:
    msr     daifset, #0b1111
    mov     x19, x0
    bl      count_instructions
    mrs     x0, CurrentEL
    cmp     x0, #2 << 2
    b.ne    1f
    bl      leave_el2
1:  mov     x0, #0x0800             // SCTLR_OFF
    movk    x0, #0x30d0, lsl #16
    msr     sctlr_el1, x0
    isb

    ldp     x0, x1, [x19]
    msr     tpidr_el1, x0
    msr     mair_el1, x1
    ldp     x0, x1, [x19, #16]
    msr     tcr_el1, x0
    msr     ttbr0_el1, x1
    ldp     x0, x20, [x19, #32]
    ldr     x21, [x19, #48]
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x0
    isb

    msr     SPSel, #1
    mov     sp, x21
    msr     SPSel, #0
    mov     sp, x20
    mov     x29, xzr
    mov     x30, xzr
    b       {arrive}
