//! The latest unmappings of a domain. A master that faults on an address has often
//! been told of it too long: that it was mapped, and how lately, is worth more than
//! that it is not.
//!
//! It is on the way of every unmapping, so a note is one word, and CPUs that
//! unmap at once may lose each other's.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mastiff_core::addr::{Iova, PAGE};

/// How many are kept; a power of two.
const KEPT: usize = 64;
/// Bits of a note that hold the number of pages; those above, that of the first.
const COUNT_BITS: u32 = 28;
const MOST: u64 = (1 << COUNT_BITS) - 1;

pub(crate) struct Recent {
    next: AtomicUsize,
    // Page and count, or 0.
    notes: [AtomicU64; KEPT],
}

impl Recent {
    pub const fn new() -> Self {
        Self {
            next: AtomicUsize::new(0),
            notes: [const { AtomicU64::new(0) }; KEPT],
        }
    }

    #[inline]
    pub fn note(&self, iova: Iova, len: u64) {
        let next = self.next.load(Ordering::Relaxed);
        self.next.store(next.wrapping_add(1), Ordering::Relaxed);
        let note = (iova.0 / PAGE) << COUNT_BITS | (len / PAGE).min(MOST);
        self.notes[next % KEPT].store(note, Ordering::Relaxed);
    }

    /// How many others have been unmapped since the page of `iova` was.
    pub fn age(&self, iova: Iova) -> Option<usize> {
        let next = self.next.load(Ordering::Relaxed);
        (0..KEPT).find(|age| {
            let at = next.wrapping_sub(age + 1) % KEPT;
            let note = self.notes[at].load(Ordering::Relaxed);
            let page = (iova.0 / PAGE).wrapping_sub(note >> COUNT_BITS);
            page < note & MOST
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_by_their_age() {
        let recent = Recent::new();
        assert_eq!(recent.age(Iova(0)), None);
        recent.note(Iova(0x5000), 2 * PAGE);
        recent.note(Iova(0), PAGE);
        assert_eq!(recent.age(Iova(0xfff)), Some(0));
        assert_eq!(recent.age(Iova(0x1000)), None);
        assert_eq!(recent.age(Iova(0x4fff)), None);
        assert_eq!(recent.age(Iova(0x5000)), Some(1));
        assert_eq!(recent.age(Iova(0x6fff)), Some(1));
        assert_eq!(recent.age(Iova(0x7000)), None);
        // Again, so it is younger.
        recent.note(Iova(0x6000), PAGE);
        assert_eq!(recent.age(Iova(0x6000)), Some(0));
        for page in 0..KEPT as u64 {
            recent.note(Iova(0x10_0000 + page * PAGE), PAGE);
        }
        assert_eq!(recent.age(Iova(0x6000)), None);
        assert_eq!(recent.age(Iova(0x10_0000)), Some(KEPT - 1));
        recent.note(Iova(0xffff_ffff_f000), u64::MAX);
        assert_eq!(recent.age(Iova(0xffff_ffff_ffff)), Some(0));
    }
}
