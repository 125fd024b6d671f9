//! Translation tables in frames of their own kind. Whoever builds tables does it
//! by physical address, so every access checks that the frame is a table: then a
//! stale or corrupt address meets a panic and not other people's memory.

use core::sync::atomic::{AtomicU64, Ordering};

use mastiff_core::addr::{PAGE, PhysAddr};
use mastiff_pgtable::{Kind as Descriptors, TableMem};

use crate::cpu;
use crate::frames::{Frames, Kind, Request};

/// Words in the largest table: of the 64 KiB granule.
const WORDS: usize = (64 << 10) / 8;

/// A kind of table, and the frames that they come from.
#[derive(Copy, Clone)]
pub struct Tables {
    frames: &'static Frames,
    kind: Kind,
}

impl Tables {
    /// Tables that devices walk.
    pub fn for_devices(frames: &'static Frames) -> Self {
        let kind = Kind::Table;
        Self { frames, kind }
    }

    /// Tables that the CPU walks.
    pub fn for_cpu(frames: &'static Frames) -> Self {
        let kind = Kind::CpuTable;
        Self { frames, kind }
    }

    /// A word of a table, as the atom that walkers see.
    #[inline(always)]
    fn word(&self, pa: u64, index: usize) -> &AtomicU64 {
        let at = pa.wrapping_add(8 * index as u64);
        if !at.is_multiple_of(8) || !self.frames.is(at, self.kind) {
            refuse(self.kind, pa, index);
        }
        // SAFETY: aligned, and within a frame that is tagged as a table: it is mapped,
        // and while it has that tag it is only reached through here, as atomics.
        unsafe { AtomicU64::from_ptr(at as *mut u64) }
    }

    /// `count` neighbouring words of a table, if it takes no look elsewhere to find that
    /// they are: in the frame that the first is in, of those that are used first.
    #[inline(always)]
    fn words_at_hand(&self, pa: u64, index: usize, count: usize) -> Option<&[AtomicU64]> {
        let at = pa.wrapping_add(8 * index as u64);
        let last = at.wrapping_add(8 * (count as u64).wrapping_sub(1));
        if !at.is_multiple_of(8) || (last ^ at >= PAGE) || !self.frames.is_in_highest(at, self.kind)
        {
            return None;
        }
        // SAFETY: as for `words`.
        Some(unsafe { core::slice::from_raw_parts(at as *const AtomicU64, count) })
    }

    /// `count` neighbouring words of a table.
    #[inline(always)]
    fn words(&self, pa: u64, index: usize, count: usize) -> &[AtomicU64] {
        let at = pa.wrapping_add(8 * index as u64);
        let last = at.wrapping_add(8 * (count as u64).wrapping_sub(1));
        // All in the frame that the first is in, but for large tables.
        if !at.is_multiple_of(8)
            || !self.frames.is(at, self.kind)
            || (last ^ at >= PAGE && !self.all_are_tables(at, count))
        {
            refuse(self.kind, pa, index);
        }
        // SAFETY: aligned, and within frames that are tagged as tables: they are mapped,
        // and while they have that tag they are only reached through here, as atomics.
        unsafe { core::slice::from_raw_parts(at as *const AtomicU64, count) }
    }

    #[cold]
    #[inline(never)]
    fn all_are_tables(&self, at: u64, count: usize) -> bool {
        if count > WORDS {
            return false;
        }
        let mut frames = at / PAGE..(at + 8 * count as u64).div_ceil(PAGE);
        frames.all(|frame| self.frames.is(frame * PAGE, self.kind))
    }
}

/// Stores leaves, if all of the words are empty.
#[inline(always)]
fn put_run(words: &[AtomicU64], first: u64, step: u64) -> bool {
    let empty = cpu::or_words(words) == 0;
    if empty {
        cpu::count_words(words, first, step);
    }
    empty
}

/// Empties words, if all of them are of a kind.
#[inline(always)]
fn take_run(words: &[AtomicU64], kind: Descriptors) -> bool {
    // Bits that all have, and, where some must not be there, bits that any has.
    let same = kind.differs(cpu::and_words(words)) == 0
        && (kind.mask == kind.bits || kind.differs(cpu::or_words(words)) == 0);
    if same {
        cpu::count_words(words, 0, 0);
    }
    same
}

#[cold]
#[inline(never)]
fn refuse(kind: Kind, pa: u64, index: usize) -> ! {
    panic!("word {index} at {pa:#x} is not in a table of kind {kind:?}")
}

impl TableMem for Tables {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        let mut request = Request::new(bytes.div_ceil(PAGE));
        request.align = bytes;
        let pa = self.frames.take(request, self.kind)?;
        // SAFETY: whole frames that were just handed to us.
        unsafe { cpu::zero_pages(pa.0 as *mut u8, (request.count * PAGE) as usize) };
        Some(pa.0)
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        self.frames
            .give(PhysAddr(pa), bytes.div_ceil(PAGE), self.kind);
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        let count = bytes.div_ceil(PAGE);
        self.frames
            .retag(PhysAddr(pa), count, self.kind, Kind::Quarantined);
    }

    #[inline]
    fn load(&self, pa: u64, index: usize) -> u64 {
        self.word(pa, index).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, pa: u64, index: usize, value: u64) {
        self.word(pa, index).store(value, Ordering::Release);
    }

    #[inline]
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        self.word(pa, index)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }

    #[inline(always)]
    fn fill(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        put_run(self.words(pa, index, count), first, step)
    }

    #[inline(always)]
    fn set(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        match self.words_at_hand(pa, index, count) {
            Some([word]) if word.load(Ordering::Relaxed) == 0 => {
                word.store(first, Ordering::Relaxed);
                true
            }
            Some(words) if count > 1 => put_run(words, first, step),
            _ => false,
        }
    }

    #[inline(always)]
    fn unset(&self, pa: u64, index: usize, count: usize, kind: Descriptors) -> bool {
        match self.words_at_hand(pa, index, count) {
            Some([word]) if kind.differs(word.load(Ordering::Relaxed)) == 0 => {
                word.store(0, Ordering::Relaxed);
                true
            }
            Some(words) if count > 1 => take_run(words, kind),
            _ => false,
        }
    }

    #[inline]
    fn put(&self, pa: u64, index: usize, leaves: &[u64]) -> bool {
        let words = self.words(pa, index, leaves.len());
        let empty = cpu::or_words(words) == 0;
        if empty {
            for (word, &leaf) in words.iter().zip(leaves) {
                word.store(leaf, Ordering::Relaxed);
            }
        }
        empty
    }

    #[inline(always)]
    fn clear(&self, pa: u64, index: usize, count: usize, kind: Descriptors) -> bool {
        take_run(self.words(pa, index, count), kind)
    }

    /// Cleans the words to the point of coherency: right for walkers that snoop
    /// and for those that do not.
    fn publish(&self, pa: u64, index: usize, count: usize) {
        let words = self.words(pa, index, count);
        // SAFETY: within tables.
        unsafe { cpu::clean(words.as_ptr().cast(), count * 8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mastiff_core::addr::PhysRange;
    use std::alloc::{Layout, alloc};
    use std::boxed::Box;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn frames() -> &'static Frames {
        let layout = Layout::from_size_align(1 << 20, PAGE as usize).unwrap();
        // SAFETY: the size is not zero.
        let start = PhysAddr(unsafe { alloc(layout) } as u64);
        let len = 1 << 20;
        // SAFETY: allocated for this, never freed.
        Box::leak(Box::new(unsafe {
            Frames::new(&[PhysRange { start, len }], &[])
        }))
    }

    #[test]
    fn only_tables_of_its_kind_are_reached() {
        let frames = frames();
        let tables = Tables::for_devices(frames);
        let table = tables.alloc_table(PAGE).unwrap();
        assert_eq!(tables.load(table, 511), 0);
        tables.store(table, 3, 7);
        assert_eq!(tables.compare_exchange(table, 3, 7, 9), Ok(7));
        assert_eq!(tables.compare_exchange(table, 3, 7, 9), Err(9));
        tables.publish(table, 510, 2);
        tables.store(table, 3, 0);
        for count in [1, 2, 16, 35] {
            assert!(tables.fill(table, 7, count, 0x1003, 0x1000));
            for n in 0..count as u64 {
                assert_eq!(tables.load(table, 7 + n as usize), 0x1003 + 0x1000 * n);
            }
            assert_eq!(tables.load(table, 7 + count), 0);
            assert!(!tables.fill(table, 0, 8, 3, 0), "the last is taken");
            assert_eq!(tables.load(table, 0), 0);
            let kind = |bits| Descriptors { mask: 3, bits };
            assert!(!tables.clear(table, 7, count, kind(1)), "of another kind");
            assert!(
                !tables.clear(table, 7, count + 1, kind(3)),
                "the last is empty"
            );
            assert_eq!(tables.load(table, 7), 0x1003);
            assert!(tables.clear(table, 7, count, kind(3)));
            assert!((0..64).all(|n| tables.load(table, n) == 0));
        }

        let other = Tables::for_cpu(frames).alloc_table(PAGE).unwrap();
        let pages = frames.take(Request::ONE, Kind::Pages).unwrap();
        tables.free_table(table, PAGE);
        let large = tables.alloc_table(64 << 10).unwrap();
        assert!(large.is_multiple_of(64 << 10));
        assert_eq!(tables.load(large, WORDS - 1), 0);
        tables.publish(large, 0, WORDS);
        let caught = catch_unwind(AssertUnwindSafe(|| tables.store(large, WORDS, 1)));
        assert!(caught.is_err());
        tables.free_table(large, 64 << 10);
        for (pa, index) in [(other, 0), (pages.0, 0), (table, 0), (other, 512), (8, 0)] {
            let caught = catch_unwind(AssertUnwindSafe(|| tables.store(pa, index, 1)));
            assert!(caught.is_err(), "{pa:#x}[{index}]");
            let caught = catch_unwind(AssertUnwindSafe(|| tables.fill(pa, index, 2, 3, 0)));
            assert!(caught.is_err(), "{pa:#x}[{index}] and the next");
        }
    }
}
