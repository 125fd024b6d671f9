// The exception vectors (DDI 0487 §D1.3.1) and the frame that they leave.
//
// The kernel runs on SP_EL0, so its exceptions arrive in the first group, on the
// exception stack: an overflow of the kernel's own stack can be reported like any
// other fault. An exception while one is handled arrives in the second group and
// is the end; it gets a third stack, since the second may be what is broken.
//
// The frame, in 8-byte words: x0 to x30, the interrupted stack pointer, ELR, SPSR,
// ESR, FAR. `Frame` in exception.rs is the same.

.set FRAME, 36 * 8

.macro resumable number
    .balign 128
    sub     sp, sp, #FRAME
    stp     x0, x1, [sp]
    mrs     x1, sp_el0
    mov     x0, #\number
    b       save
.endm

.macro fatal number
    .balign 128
    msr     tpidr_el0, x0           // not in use: there is no user
    mov     x0, sp
    msr     tpidrro_el0, x0
    mov     sp, x1                  // x1's place while it is needed
    mrs     x1, tpidr_el1           // the CPU's number
    adrp    x0, nested_stacks
    add     x0, x0, :lo12:nested_stacks
    ldr     x0, [x0, x1, lsl #3]
    mov     x1, sp
    mov     sp, x0
    mrs     x0, tpidr_el0
    sub     sp, sp, #FRAME
    stp     x0, x1, [sp]
    mrs     x1, tpidrro_el0
    mov     x0, #\number
    b       save
.endm

// By CPU, where its third stack ends.
.section .data.nested_stacks, "aw"
.balign 8
.global nested_stacks
nested_stacks:
    .quad   nested_stack_end
    .fill   {cpus} - 1, 8, 0

.section .text.vectors, "ax"
.balign 2048
.global vectors
vectors:
    resumable 0                     // at EL1 with SP_EL0: synchronous,
    resumable 1                     // IRQ,
    resumable 2                     // FIQ,
    resumable 3                     // SError
    fatal 4                         // at EL1 with SP_EL1
    fatal 5
    fatal 6
    fatal 7
    fatal 8                         // from EL0
    fatal 9
    fatal 10
    fatal 11
    fatal 12                        // from AArch32
    fatal 13
    fatal 14
    fatal 15

save:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    stp     x30, x1, [sp, #240]
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [sp, #256]
    mrs     x2, esr_el1
    mrs     x3, far_el1
    stp     x2, x3, [sp, #272]
    mov     x1, x0
    mov     x0, sp
    bl      {exception}

    // Only exceptions of the first group come back.
    ldp     x2, x3, [sp, #256]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp], #FRAME
    eret
