// From the reset vector to where a boot loader would have entered: EL3, MMU off, the
// image in flash and nothing set up (DDI 0487 §D1.3.3). All CPUs come here at once.
// One copies the image to RAM, sets up there what only EL3 can, and leaves EL3 for
// good; the others have nobody to wake them and stay.
//
// What EL3 accesses with the MMU off is the Secure physical address space; boards
// that start from here have their RAM in it as well.

.section .text.reset, "ax"
.global from_reset
from_reset:
    mrs     x0, mpidr_el1
    and     x1, x0, #0xffffff       // Aff2 to Aff0
    ubfx    x0, x0, #32, #8         // Aff3
    orr     x0, x0, x1
    cbnz    x0, park
    adrp    x22, mastiff_reset
    add     x22, x22, :lo12:mastiff_reset
    ldr     x23, [x22, #{ram}]
    cbz     x23, park               // not a board that starts from here
    add     x23, x23, #{gap}        // room for the trees

    adrp    x21, image_base
    adrp    x0, bss_start
    add     x0, x0, :lo12:bss_start
    mov     x1, x21
    mov     x2, x23
1:  ldp     x3, x4, [x1], #16       // bss_start is a multiple of 16
    stp     x3, x4, [x2], #16
    cmp     x1, x0
    b.lo    1b
    dsb     sy
    ic      iallu
    dsb     sy
    isb
    adr     x0, in_ram
    sub     x0, x0, x21
    add     x0, x0, x23
    br      x0

in_ram:
    mov     x21, x23
    bl      relocate
    mov     x0, #0x0830             // SCTLR_EL2's and SCTLR_EL3's RES1 bits: off
    movk    x0, #0x30c5, lsl #16
    msr     sctlr_el3, x0
    isb
    msr     SPSel, #1
    adrp    x0, main_stack_end
    mov     sp, x0
    mov     x29, xzr
    adrp    x0, mastiff_reset
    add     x0, x0, :lo12:mastiff_reset
    bl      {set_up}                // gives the tree's address
    mov     x19, x0

    // Non-secure from here on, AArch64, with nothing trapped: RES1, SMD (nobody
    // answers an SMC), HCE, RW, APK, API, EnSCXT, FGTEn, ECVEn, HXEn. What a CPU does not have
    // is RES0.
    mov     x0, #0x05b1
    movk    x0, #0x1a03, lsl #16
    movk    x0, #0x0040, lsl #32
    msr     scr_el3, x0
    msr     cptr_el3, xzr
    msr     mdcr_el3, xzr
    isb
    adrp    x0, entered
    add     x0, x0, :lo12:entered
    msr     elr_el3, x0
    mrs     x0, id_aa64pfr0_el1
    ubfx    x0, x0, #8, #4          // EL2
    mov     x1, #0b1111000101       // DAIF masked, EL1 with SP_EL1
    cbz     x0, 2f
    mov     x0, #0x0830
    movk    x0, #0x30c5, lsl #16
    msr     sctlr_el2, x0
    mov     x0, #1 << 31            // RW; E2H off
    msr     hcr_el2, x0
    mov     x1, #0b1111001001       // EL2 with SP_EL2
2:  msr     spsr_el3, x1
    isb
    eret

park:
    wfi
    b       park
