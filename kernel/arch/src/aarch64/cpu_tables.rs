//! The memory of the CPU's own tables. Until the frame allocator is there it is a
//! part of the image that is set aside, so that tables can be built before anybody
//! knows where RAM is; after that it is frames.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use mastiff_core::addr::PAGE;
use mastiff_hw::frames::frames;
use mastiff_hw::tables::Tables;
use mastiff_pgtable::TableMem;

use super::image;

/// The memory of the CPU's tables. They are only changed under the address
/// space's lock or before there is a second observer, and the walker does not write them.
pub(crate) struct CpuTables;

/// What was taken of the image's tables.
static TAKEN: AtomicU64 = AtomicU64::new(0);

impl CpuTables {
    fn is_of_image(pa: u64) -> bool {
        (image::tables_start()..image::tables_end()).contains(&pa)
    }

    /// The word of a table within the image.
    fn word(pa: u64, index: usize) -> *mut u64 {
        assert!(pa.is_multiple_of(PAGE) && index < PAGE as usize / 8);
        (pa as *mut u64).wrapping_add(index)
    }

    fn in_frames() -> Option<Tables> {
        frames().map(Tables::for_cpu)
    }

    fn of_frames() -> Tables {
        Self::in_frames().expect("a table is in the image or in a frame")
    }
}

impl TableMem for CpuTables {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        if let Some(tables) = Self::in_frames() {
            return tables.alloc_table(bytes);
        }
        // The CPU's tables are of 4 KiB, and so are those in the image.
        debug_assert_eq!(bytes, PAGE);
        let pa = image::tables_start() + TAKEN.load(Ordering::Relaxed);
        if !Self::is_of_image(pa) {
            return None;
        }
        TAKEN.store(pa + PAGE - image::tables_start(), Ordering::Relaxed);
        // SAFETY: a page of the image that is for this and was not taken yet. With
        // the MMU off there are no cache lines to zero, so word by word.
        unsafe { (pa as *mut u64).write_bytes(0, PAGE as usize / 8) };
        Some(pa)
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        // One of the image stays taken: it could not serve anything else.
        if !Self::is_of_image(pa) {
            Self::of_frames().free_table(pa, bytes);
        }
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        if !Self::is_of_image(pa) {
            Self::of_frames().quarantine_table(pa, bytes);
        }
    }

    fn load(&self, pa: u64, index: usize) -> u64 {
        if Self::is_of_image(pa) {
            // SAFETY: within a table of the image.
            unsafe { Self::word(pa, index).read_volatile() }
        } else {
            Self::of_frames().load(pa, index)
        }
    }

    fn store(&self, pa: u64, index: usize, value: u64) {
        if Self::is_of_image(pa) {
            // SAFETY: within a table of the image.
            unsafe { Self::word(pa, index).write_volatile(value) }
        } else {
            Self::of_frames().store(pa, index, value);
        }
    }

    /// Not one access: nobody else writes, and exclusives need the MMU on.
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        let found = self.load(pa, index);
        if found != old {
            return Err(found);
        }
        self.store(pa, index, new);
        Ok(old)
    }

    fn publish(&self, _pa: u64, _index: usize, _count: usize) {
        // The walker reads through the caches; the next access may rely on it.
        // SAFETY: orders, nothing more.
        unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
    }
}
