//! The last-level table that was used last, so that neighbouring pages skip the
//! walk.
//!
//! One word holds both the part of the address that all pages of the table have
//! in common and where the table is, so that a reader gets a pair that belongs
//! together without a lock: bit 63 set, then the address above the table's span,
//! then the table's address above the granule. With addresses of up to 48 bits
//! and the 4 KiB granule that takes 1 + 27 + 36 bits, with larger granules less.
//! A table stays where it is until the whole tree is dropped, so a hint never
//! dangles.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::geometry::{Geometry, LAST_LEVEL};

const SET: u64 = 1 << 63;

pub(crate) struct LeafHint(AtomicU64);

impl LeafHint {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The table for `va`, if it is the remembered one.
    #[inline]
    pub(crate) fn get(&self, geometry: &Geometry, va: u64) -> Option<u64> {
        let hint = self.0.load(Ordering::Acquire);
        let bits = table_bits(geometry);
        if (hint ^ tag(geometry, va)) >> bits == 0 {
            Some((hint & ((1 << bits) - 1)) << geometry.granule.bits())
        } else {
            None
        }
    }

    /// Remembers that `table` is the one for `va`.
    pub(crate) fn set(&self, geometry: &Geometry, va: u64, table: u64) {
        let hint = tag(geometry, va) | table >> geometry.granule.bits();
        self.0.store(hint, Ordering::Release);
    }
}

/// Bits that a table's address takes.
const fn table_bits(geometry: &Geometry) -> u32 {
    48 - geometry.granule.bits()
}

/// The upper part of the word, the table's bits clear.
#[inline]
const fn tag(geometry: &Geometry, va: u64) -> u64 {
    let above = va / geometry.span(LAST_LEVEL - 1);
    SET | above << table_bits(geometry)
}
