//! The same on the host, for tests: plain volatile accesses, no caches to clean.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! accessors {
    ($($load:ident, $store:ident: $type:ty;)*) => {$(
        /// Loads from a device register.
        ///
        /// # Safety
        /// `at` is mapped, aligned, and may be read.
        pub unsafe fn $load(at: *const u8) -> $type {
            // SAFETY: the caller's.
            unsafe { at.cast::<$type>().read_volatile() }
        }

        /// Stores to a device register.
        ///
        /// # Safety
        /// `at` is mapped, aligned, and may be written.
        pub unsafe fn $store(at: *mut u8, value: $type) {
            // SAFETY: the caller's.
            unsafe { at.cast::<$type>().write_volatile(value) }
        }
    )*};
}
accessors! {
    load8, store8: u8;
    load16, store16: u16;
    load32, store32: u32;
    load64, store64: u64;
}

/// Copies between memory that a device may share and memory that is ours.
///
/// # Safety
/// `len` bytes may be read at `from` and written at `to`; they do not overlap.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's; tests have no device that races.
    unsafe { to.copy_from_nonoverlapping(from, len) }
}

/// Sets memory that a device may share.
///
/// # Safety
/// `len` bytes may be written at `at`.
pub unsafe fn fill(at: *mut u8, len: usize, byte: u8) {
    // SAFETY: the caller's.
    unsafe { at.write_bytes(byte, len) }
}

/// Zeroes whole pages.
///
/// # Safety
/// `len` bytes may be written at `at`.
pub unsafe fn zero_pages(at: *mut u8, len: usize) {
    // SAFETY: the caller's.
    unsafe { fill(at, len, 0) }
}

/// Bits that any of these words has.
pub fn or_words(words: &[AtomicU64]) -> u64 {
    let any = |sum, word: &AtomicU64| sum | word.load(Ordering::Relaxed);
    words.iter().fold(0, any)
}

/// Bits that all of these words have.
pub fn and_words(words: &[AtomicU64]) -> u64 {
    let every = |all, word: &AtomicU64| all & word.load(Ordering::Relaxed);
    words.iter().fold(!0, every)
}

/// Stores `first`, and `step` more each time.
pub fn count_words(words: &[AtomicU64], first: u64, step: u64) {
    let mut value = first;
    for word in words {
        word.store(value, Ordering::Relaxed);
        value = value.wrapping_add(step);
    }
}

/// Writes a range back to memory: there is no cache to clean.
///
/// # Safety
/// None is needed.
pub unsafe fn clean(_at: *const u8, _len: usize) {}

/// Writes back and drops a range: there is no cache.
///
/// # Safety
/// None is needed.
pub unsafe fn clean_invalidate(_at: *const u8, _len: usize) {}
