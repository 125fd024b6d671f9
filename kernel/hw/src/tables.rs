//! Translation tables in frames of their own kind. Whoever builds tables does it
//! by physical address, so every access checks that the frame is a table: then a
//! stale or corrupt address meets a panic and not other people's memory.

use core::sync::atomic::{AtomicU64, Ordering};

use mastiff_core::addr::{PAGE, PhysAddr};
use mastiff_pgtable::TableMem;

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
    #[inline]
    fn word(&self, pa: u64, index: usize) -> &AtomicU64 {
        let at = pa.wrapping_add(8 * index as u64);
        if index >= WORDS || !pa.is_multiple_of(PAGE) || self.frames.kind(at) != Some(self.kind) {
            self.refuse(pa, index);
        }
        // SAFETY: aligned, and within a frame that is tagged as a table: it is mapped,
        // and while it has that tag it is only reached through here, as atomics.
        unsafe { AtomicU64::from_ptr(at as *mut u64) }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, pa: u64, index: usize) -> ! {
        panic!(
            "word {index} at {pa:#x} is not in a table of kind {:?}",
            self.kind
        )
    }
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

    /// Cleans the words to the point of coherency: right for walkers that snoop
    /// and for those that do not.
    fn publish(&self, pa: u64, index: usize, count: usize) {
        let at: *const AtomicU64 = self.word(pa, index);
        if count > 1 {
            // It ends in a table too.
            self.word(pa, index + (count - 1));
        }
        // SAFETY: within tables.
        unsafe { cpu::clean(at.cast(), count * 8) }
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
        }
    }
}
