//! Registers, shared memory and caches by the instructions that are meant.
//!
//! Written out rather than left to the compiler because of what it may do to a
//! volatile access: one with write-back of the address is legal but a hypervisor
//! cannot emulate it (DDI 0487 §ESR_ELx, ISS for data aborts: ISV), and a copy
//! from memory that a device writes would be a data race.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! accessors {
    ($($load:ident, $store:ident: $type:ty, $ldr:literal, $str:literal, $modifier:literal;)*) => {$(
        /// Loads from a device register.
        ///
        /// # Safety
        /// `at` is mapped, aligned, and may be read.
        #[inline(always)]
        pub unsafe fn $load(at: *const u8) -> $type {
            let value: $type;
            // SAFETY: the caller's. Memory is taken to change: order is kept.
            unsafe {
                asm!(concat!($ldr, " {value:", $modifier, "}, [{at}]"),
                     value = out(reg) value, at = in(reg) at, options(nostack, preserves_flags));
            }
            value
        }

        /// Stores to a device register.
        ///
        /// # Safety
        /// `at` is mapped, aligned, and may be written.
        #[inline(always)]
        pub unsafe fn $store(at: *mut u8, value: $type) {
            // SAFETY: the caller's.
            unsafe {
                asm!(concat!($str, " {value:", $modifier, "}, [{at}]"),
                     value = in(reg) value, at = in(reg) at, options(nostack, preserves_flags));
            }
        }
    )*};
}
accessors! {
    load8, store8: u8, "ldrb", "strb", "w";
    load16, store16: u16, "ldrh", "strh", "w";
    load32, store32: u32, "ldr", "str", "w";
    load64, store64: u64, "ldr", "str", "x";
}

/// Copies between memory that a device may share and memory that is ours.
///
/// # Safety
/// `len` bytes may be read at `from` and written at `to`; they do not overlap, and
/// both are normal memory.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's; every access lies within the `len` bytes.
    unsafe {
        asm!(
            "1: subs {left}, {left}, #64",
            "b.lo 2f",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "b 1b",
            "2: add {left}, {left}, #64",
            "3: cbz {left}, 4f",
            "ldrb {a:w}, [{from}], #1",
            "strb {a:w}, [{to}], #1",
            "sub {left}, {left}, #1",
            "b 3b",
            "4:",
            left = inout(reg) len => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            options(nostack),
        );
    }
}

/// Sets memory that a device may share.
///
/// # Safety
/// `len` bytes of normal memory may be written at `at`.
pub unsafe fn fill(at: *mut u8, len: usize, byte: u8) {
    let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
    // SAFETY: the caller's; every access lies within the `len` bytes.
    unsafe {
        asm!(
            "1: subs {left}, {left}, #32",
            "b.lo 2f",
            "stp {pattern}, {pattern}, [{at}], #16",
            "stp {pattern}, {pattern}, [{at}], #16",
            "b 1b",
            "2: add {left}, {left}, #32",
            "3: cbz {left}, 4f",
            "strb {pattern:w}, [{at}], #1",
            "sub {left}, {left}, #1",
            "b 3b",
            "4:",
            left = inout(reg) len => _,
            at = inout(reg) at => _,
            pattern = in(reg) pattern,
            options(nostack),
        );
    }
}

/// Zeroes whole pages by whole cache lines, where the CPU allows it
/// (DDI 0487 §DCZID_EL0).
///
/// # Safety
/// `at` is aligned to a page, `len` a multiple of its size, and the bytes may be
/// written and are normal, cacheable memory.
pub unsafe fn zero_pages(at: *mut u8, len: usize) {
    let dczid: u64;
    // SAFETY: reading an identification register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags)) };
    if dczid & 1 << 4 != 0 {
        // SAFETY: the caller's.
        return unsafe { fill(at, len, 0) };
    }
    let block = 4usize << (dczid & 0xf);
    // A block is a power of two of at most 2 KiB: two of them lie in a page.
    let pairs = len / (2 * block);
    let (mut at, mut pairs) = (at, pairs);
    while pairs >= 4 {
        // SAFETY: eight blocks of those that are left.
        unsafe {
            asm!(
                "dc zva, {at}", "add {at}, {at}, {block}", "dc zva, {at}", "add {at}, {at}, {block}",
                "dc zva, {at}", "add {at}, {at}, {block}", "dc zva, {at}", "add {at}, {at}, {block}",
                "dc zva, {at}", "add {at}, {at}, {block}", "dc zva, {at}", "add {at}, {at}, {block}",
                "dc zva, {at}", "add {at}, {at}, {block}", "dc zva, {at}", "add {at}, {at}, {block}",
                at = inout(reg) at, block = in(reg) block, options(nostack, preserves_flags)
            );
        }
        pairs -= 4;
    }
    for _ in 0..2 * pairs {
        // SAFETY: one block of those that are left.
        unsafe {
            asm!("dc zva, {at}", "add {at}, {at}, {block}",
                 at = inout(reg) at, block = in(reg) block, options(nostack, preserves_flags));
        }
    }
}

/// Bits that any of these words has. Each is read as one atom, by twos where the
/// compiler, asked for atomics, would not (DDI 0487 §B2.2.1: a pair of 64-bit registers
/// is two single-copy atomic accesses).
#[inline(always)]
pub fn or_words(words: &[AtomicU64]) -> u64 {
    let (eights, rest) = words.as_chunks::<8>();
    let mut sum = 0;
    for eight in eights {
        // SAFETY: reads the eight words.
        unsafe {
            asm!(
                "ldp {a}, {b}, [{at}]", "ldp {c}, {d}, [{at}, #16]",
                "orr {a}, {a}, {b}", "orr {c}, {c}, {d}", "orr {sum}, {sum}, {a}", "orr {sum}, {sum}, {c}",
                "ldp {a}, {b}, [{at}, #32]", "ldp {c}, {d}, [{at}, #48]",
                "orr {a}, {a}, {b}", "orr {c}, {c}, {d}", "orr {sum}, {sum}, {a}", "orr {sum}, {sum}, {c}",
                at = in(reg) eight.as_ptr(), sum = inout(reg) sum,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                options(readonly, nostack, preserves_flags)
            );
        }
    }
    let any = |sum, word: &AtomicU64| sum | word.load(Ordering::Relaxed);
    rest.iter().fold(sum, any)
}

/// Bits that all of these words have.
#[inline(always)]
pub fn and_words(words: &[AtomicU64]) -> u64 {
    let (eights, rest) = words.as_chunks::<8>();
    let mut all = !0;
    for eight in eights {
        // SAFETY: reads the eight words.
        unsafe {
            asm!(
                "ldp {a}, {b}, [{at}]", "ldp {c}, {d}, [{at}, #16]",
                "and {a}, {a}, {b}", "and {c}, {c}, {d}", "and {all}, {all}, {a}", "and {all}, {all}, {c}",
                "ldp {a}, {b}, [{at}, #32]", "ldp {c}, {d}, [{at}, #48]",
                "and {a}, {a}, {b}", "and {c}, {c}, {d}", "and {all}, {all}, {a}", "and {all}, {all}, {c}",
                at = in(reg) eight.as_ptr(), all = inout(reg) all,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                options(readonly, nostack, preserves_flags)
            );
        }
    }
    let every = |all, word: &AtomicU64| all & word.load(Ordering::Relaxed);
    rest.iter().fold(all, every)
}

/// Stores `first`, and `step` more each time, each as one atom.
#[inline(always)]
pub fn count_words(words: &[AtomicU64], first: u64, step: u64) {
    let (eights, rest) = words.as_chunks::<8>();
    let mut value = first;
    let mut second = first.wrapping_add(step);
    for eight in eights {
        // SAFETY: writes the eight words, which may be: they are atomics.
        unsafe {
            asm!(
                "stp {a}, {b}, [{at}]", "add {a}, {a}, {two}", "add {b}, {b}, {two}",
                "stp {a}, {b}, [{at}, #16]", "add {a}, {a}, {two}", "add {b}, {b}, {two}",
                "stp {a}, {b}, [{at}, #32]", "add {a}, {a}, {two}", "add {b}, {b}, {two}",
                "stp {a}, {b}, [{at}, #48]", "add {a}, {a}, {two}", "add {b}, {b}, {two}",
                at = in(reg) eight.as_ptr(), two = in(reg) step.wrapping_mul(2),
                a = inout(reg) value, b = inout(reg) second,
                options(nostack, preserves_flags)
            );
        }
    }
    for word in rest {
        word.store(value, Ordering::Relaxed);
        value = value.wrapping_add(step);
    }
}

/// Size of the smallest data cache line (DDI 0487 §CTR_EL0, DminLine).
fn line() -> usize {
    let ctr: usize;
    // SAFETY: reading an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << (ctr >> 16 & 0xf)
}

/// Writes the cache lines of a range back to the point of coherency, where
/// observers that do not snoop see them; complete when it returns.
///
/// # Safety
/// The range is mapped, normal memory.
#[inline(never)]
pub unsafe fn clean(at: *const u8, len: usize) {
    let line = line();
    let end = at as usize + len;
    for at in (at as usize & !(line - 1)..end).step_by(line) {
        // SAFETY: changes no memory as this CPU sees it.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: orders, nothing more.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Writes back and drops the cache lines of a range, so that later reads see what
/// is in memory. Lines at the edges may hold others' data, hence "and writes back".
///
/// # Safety
/// The range is mapped, normal memory.
#[inline(never)]
pub unsafe fn clean_invalidate(at: *const u8, len: usize) {
    let line = line();
    let end = at as usize + len;
    for at in (at as usize & !(line - 1)..end).step_by(line) {
        // SAFETY: as for `clean`; what is dropped was written back.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: orders, nothing more.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
