// From the bootloader's jump to the first line of Rust.
//
// Entered by the arm64 boot protocol (Linux, Documentation/arch/arm64/booting.rst):
// EL1 or EL2, MMU off, the tree's address in x0; or from reset, at EL3, which reset.S
// brings to the same state. Until the relocations are done
// nothing here, nor anything called from here, may use an address that is stored
// in memory.
//
// SCTLR_OFF is SCTLR_EL1's RES1 bits as of Armv8.0: MMU and caches off.
// x19 the tree, x20 the exception level entered at, x21 the image's base, x22 the
// number of event counters.

.section .text.entry, "ax"
.global _start
_start:
    msr     daifset, #0b1111
    mov     x19, x0
    mrs     x20, CurrentEL
    ubfx    x20, x20, #2, #2
    cmp     x20, #3
    b.eq    from_reset
.global entered
entered:
    bl      count_instructions
    mrs     x0, CurrentEL
    cmp     x0, #2 << 2
    b.ne    1f
    bl      leave_el2
1:  mov     x0, #0x0800             // SCTLR_OFF
    movk    x0, #0x30d0, lsl #16
    msr     sctlr_el1, x0
    isb

    // What was loaded is clean in the caches; stale lines over what we are about
    // to write with the caches off would show through once they are on.
    adrp    x21, image_base
    adrp    x0, rodata_start
    adrp    x1, tables_end
    bl      clean_invalidate

    adrp    x0, bss_start
    add     x0, x0, :lo12:bss_start
    adrp    x1, bss_end
    add     x1, x1, :lo12:bss_end
2:  cmp     x0, x1
    b.hs    3f
    stp     xzr, xzr, [x0], #16
    b       2b

3:  bl      relocate

    // The kernel runs on SP_EL0; exceptions get a stack of their own for free.
    msr     SPSel, #1
    adrp    x0, exception_stack_end
    mov     sp, x0
    msr     SPSel, #0
    adrp    x0, main_stack_end
    mov     sp, x0
    adrp    x0, vectors
    add     x0, x0, :lo12:vectors
    msr     vbar_el1, x0
    isb

    msr     tpidr_el1, xzr          // CPU 0
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    b       {start}

// Leaves the number of event counters in x22. Event counter 0 counts instructions at EL1 and EL2 from here on (DDI 0487
// §D13, PMU): PMEVTYPER.NSH includes EL2, INST_RETIRED is event 0x08.
.global count_instructions
count_instructions:
    mov     x22, #0
    mrs     x1, id_aa64dfr0_el1
    ubfx    x1, x1, #8, #4          // PMUVer: 0 none, 15 not this architecture
    cbz     x1, 2f
    cmp     x1, #15
    b.eq    2f
    mrs     x2, pmcr_el0
    ubfx    x3, x2, #11, #5         // N, the number of counters
    cbz     x3, 2f
    mov     x22, x3
    mov     x3, #0x08
    movk    x3, #0x0800, lsl #16
    msr     pmevtyper0_el0, x3
    msr     pmevcntr0_el0, xzr
    mov     x3, #1
    msr     pmovsclr_el0, x3
    msr     pmcntenset_el0, x3
    orr     x2, x2, #1              // E
    cmp     x1, #6                  // FEAT_PMUv3p5: LP, counters of 64 bits
    b.lo    3f
    orr     x2, x2, #0x80
3:  msr     pmcr_el0, x2
    isb
2:  ret

// EL2 is left for good, with nothing trapped or virtualised. HCR_EL2.E2H goes to 0;
// CPUs that only have E2H = 1 (no FEAT_E2H0) are not supported.
.global leave_el2
leave_el2:
    mov     x0, #1 << 31            // RW: EL1 is AArch64
    msr     hcr_el2, x0
    isb
    mov     x0, #0b11               // EL1 may use the physical counter and timer
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr
    mov     x0, #0x33ff             // RES1, no traps
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    msr     mdcr_el2, x22           // HPMN: all event counters are EL1's too
    mrs     x0, id_aa64mmfr0_el1
    ubfx    x0, x0, #56, #4         // FGT: fine-grained traps
    cbz     x0, 2f
    // Clear bits also trap registers of extensions that are not used here.
    msr     S3_4_C1_C1_4, xzr       // HFGRTR_EL2
    msr     S3_4_C1_C1_5, xzr       // HFGWTR_EL2
    msr     S3_4_C1_C1_6, xzr       // HFGITR_EL2
    msr     S3_4_C3_C1_4, xzr       // HDFGRTR_EL2
    msr     S3_4_C3_C1_5, xzr       // HDFGWTR_EL2
2:  mrs     x0, id_aa64mmfr1_el1
    ubfx    x0, x0, #40, #4         // HCX
    cbz     x0, 3f
    msr     S3_4_C1_C2_2, xzr       // HCRX_EL2
3:  msr     vttbr_el2, xzr
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0
    mrs     x0, id_aa64pfr0_el1
    ubfx    x0, x0, #24, #4         // GIC: system registers are there
    cbz     x0, 1f
    mrs     x0, S3_4_C12_C9_5       // ICC_SRE_EL2
    mov     x1, #0b1001             // Enable, SRE
    orr     x0, x0, x1
    msr     S3_4_C12_C9_5, x0
    isb
    mrs     x0, S3_4_C12_C9_5
    tbz     x0, #0, 1f
    msr     S3_4_C12_C11_0, xzr     // ICH_HCR_EL2
1:  mov     x0, #0x0800             // SCTLR_OFF
    movk    x0, #0x30d0, lsl #16
    msr     sctlr_el1, x0
    mov     x0, #0b1111000100       // DAIF masked, EL1 with SP_EL0
    msr     spsr_el2, x0
    msr     elr_el2, x30
    eret

// Cleans and invalidates the data cache lines from x0 to x1.
.global clean_invalidate
clean_invalidate:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4         // DminLine
    mov     x3, #4
    lsl     x3, x3, x2
    sub     x2, x3, #1
    bic     x0, x0, x2
1:  dc      civac, x0
    add     x0, x0, x3
    cmp     x0, x1
    b.lo    1b
    dsb     sy
    ret

// Adds the image's base, in x21, where an address was stored. There are no other
// relocations in an image without symbols to look up.
.global relocate
relocate:
    adrp    x0, rela_start
    add     x0, x0, :lo12:rela_start
    adrp    x1, rela_end
    add     x1, x1, :lo12:rela_end
1:  cmp     x0, x1
    b.hs    2f
    ldp     x2, x3, [x0]
    ldr     x4, [x0, #16]
    add     x0, x0, #24
    cmp     w3, #1027               // R_AARCH64_RELATIVE
    b.ne    3f
    add     x4, x4, x21
    str     x4, [x21, x2]
    b       1b
2:  ret
3:  wfe                             // the image is not what was linked
    b       3b
